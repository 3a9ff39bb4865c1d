/** Follow a task to its end: reconnect with growing pauses, poll where nothing else gets through. */

import { Refused } from "./failures.js";
import { overPolling } from "./over-polling.js";
import { pause } from "./pause.js";
import { toldByTask } from "./task-view.js";

const FALLBACK_AFTER = 3;
const POLLING_MS = 30_000;
const LEAST_PAUSE_MS = 500;
const MOST_PAUSE_MS = 15_000;

/**
 * Resolves when nothing more is to be learnt.
 * @param {object} of
 * @param {(source, tell, signal, say) => Promise<void>} of.transport
 * @param {import("./task-source.js").TaskSource} of.source
 * @param {(told: object) => boolean} of.show takes news of the task; says whether it is done
 * @param {(word: string) => void} of.say "live", "polling", "reconnecting"
 * @param {() => boolean} of.isComplete whether nothing more is to be learnt
 * @throws {Refused} the task may not be watched
 */
export async function follow({ transport, source, show, say, isComplete, signal }) {
  const link = new Link(transport, { source, show, say, signal });
  while (!(await link.isAtEnd())) {
    say("reconnecting");
    await pause(link.pauseMs(), signal);
  }
  if (!isComplete() && source.canLook) {
    await look(source, show, signal);
  }
}

class Link {
  #failures = 0;
  #isHopeless;

  constructor(transport, { source, show, say, signal }) {
    Object.assign(this, { transport, source, show, say, signal });
    this.#isHopeless = transport === overPolling;
  }

  /** Watch as long as it goes; gives whether the task is done. */
  async isAtEnd() {
    if (!this.#isHopeless && (await this.#isDoneLive())) {
      return true;
    }
    if (this.#isHopeless || (this.#failures >= FALLBACK_AFTER && this.source.canLook)) {
      return this.#isDoneByPolling();
    }
    return false;
  }

  /** Half of it by chance: the pages of a restarted server do not come back all at once. */
  pauseMs() {
    const most = Math.min(MOST_PAUSE_MS, LEAST_PAUSE_MS * 2 ** this.#failures);
    return most / 2 + (Math.random() * most) / 2;
  }

  async #isDoneLive() {
    try {
      await this.transport(this.source, this.#tell("live"), this.signal, this.say);
      return true;
    } catch (error) {
      this.signal.throwIfAborted();
      if (error instanceof Refused && !this.source.canLook) {
        throw error;
      }
      this.#isHopeless = error instanceof Refused;
      this.#failures += 1;
      return false;
    }
  }

  /** Polling decides whether a task may be watched at all; what it is refused is final. */
  async #isDoneByPolling() {
    const until = this.#isHopeless ? Infinity : performance.now() + POLLING_MS;
    let isDone = false;
    const tell = this.#tell("polling");
    try {
      await overPolling(this.source, (told) => (isDone = tell(told)), this.signal, until);
    } catch (error) {
      this.signal.throwIfAborted();
      if (error instanceof Refused) {
        throw error;
      }
      this.#failures += 1;
    }
    return isDone;
  }

  #tell(word) {
    return (told) => {
      this.#failures = 0;
      this.say(word);
      return this.show(told);
    };
  }
}

async function look(source, show, signal) {
  try {
    show(toldByTask((await source.look({ signal })).task));
  } catch {
    signal.throwIfAborted();
  }
}
