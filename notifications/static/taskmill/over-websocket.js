/** Watch over the WebSocket of one task, `/ws/v1/tasks/{id}`. */

import { Lost, Refused } from "./failures.js";
import { useSocket } from "./socket.js";
import { toldByEvent } from "./task-view.js";

const FINISHED = 1000;
const FOR_GOOD = new Set([4400, 4401, 4403]);

/** Resolves when the task is done; see over-polling.js for the parameters. */
export async function overWebSocket(source, tell, signal) {
  await useSocket({
    url: await source.address("ws", `/ws/v1/tasks/${source.task}`, "token", signal),
    quietMs: 45_000,
    ping: { ms: 20_000, frame: () => '{"op":"ping"}' },
    begin: (_socket, done) => (text) => {
      const message = JSON.parse(text);
      if (message.op === "event" && tell(toldByEvent(message.event))) {
        done();
      }
    },
    endOf,
    signal,
  });
}

function endOf({ code, reason }) {
  if (code === FINISHED) {
    return null;
  }
  const kind = FOR_GOOD.has(code) ? Refused : Lost;
  return new kind(`The socket was closed: ${code} ${reasonOf(reason)}`.trim());
}

function reasonOf(reason) {
  try {
    return JSON.parse(reason).code;
  } catch {
    return reason;
  }
}
