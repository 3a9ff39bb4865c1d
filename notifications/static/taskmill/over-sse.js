/** Watch by server-sent events; the browser's EventSource reconnects and resumes by itself. */

import { Lost } from "./failures.js";
import { toldByEvent } from "./task-view.js";

const TYPES = [
  "snapshot", "created", "queued", "blocked", "dispatched", "started", "progress", "retrying",
  "succeeded", "failed", "error", "cancel_requested", "cancelled", "timeout", "redriven",
].map((name) => `task.${name}`);
const PATIENCE_MS = 10_000;

/** Resolves when the task is done; see over-polling.js for the parameters. */
export async function overSse(source, tell, signal, say) {
  const url = await source.address("http", `/api/v1/tasks/${source.task}/stream`, "token", signal);
  await new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const events = new EventSource(url);
    let impatience = 0;

    function end(error) {
      clearTimeout(impatience);
      signal.removeEventListener("abort", abort);
      events.close();
      error ? reject(error) : resolve();
    }
    function abort() {
      end(signal.reason);
    }
    signal.addEventListener("abort", abort, { once: true });
    events.onopen = () => {
      clearTimeout(impatience);
      impatience = 0;
      say("live");
    };
    events.onerror = () => {
      if (events.readyState === EventSource.CLOSED) {
        end(new Lost("The stream has ended."));
      } else if (impatience === 0) {
        say("reconnecting");
        impatience = setTimeout(() => end(new Lost("The stream is gone.")), PATIENCE_MS);
      }
    };
    for (const type of TYPES) {
      events.addEventListener(type, ({ data }) => {
        if (tell(toldByEvent(JSON.parse(data)))) {
          end(null);
        }
      });
    }
  });
}
