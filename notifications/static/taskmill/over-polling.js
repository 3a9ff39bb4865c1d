/** Watch by asking again and again: the way that works wherever HTTP does. */

import { pause } from "./pause.js";
import { toldByTask } from "./task-view.js";

const WAIT_SECONDS = 20;
const LEAST_PAUSE_MS = 500;

/**
 * Resolves when the task is done, or at `until` (a `performance.now()`).
 * @param {import("./task-source.js").TaskSource} source
 * @param {(told: object) => boolean} tell says whether the task is done
 */
export async function overPolling(source, tell, signal, until = Infinity) {
  let etag = "";
  while (performance.now() < until) {
    const looked = await source.look({ etag, seconds: WAIT_SECONDS, signal });
    etag = looked.etag;
    if (looked.task !== null && tell(toldByTask(looked.task))) {
      return;
    }
    await pause(LEAST_PAUSE_MS, signal);
  }
}
