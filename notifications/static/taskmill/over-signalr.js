/** Watch over the SignalR hub: its JSON hub protocol, as much of it as one subscription needs. */

import { Lost, Refused } from "./failures.js";
import { useSocket } from "./socket.js";

const SEPARATOR = "\u001e";
const INVOCATION = 1;
const COMPLETION = 3;
const PING = 6;
const CLOSE = 7;
const SUBSCRIBING = "1";

const EVENTS = {
  TaskProgress: ({ progress, message }) => ({
    status: progress > 0 ? "processing" : undefined,
    progress,
    message,
  }),
  TaskCompleted: ({ result }) => ({ status: "success", result }),
  TaskFailed: ({ error }) => ({ status: error.status, error }),
};

/** Resolves when the task is done; see over-polling.js for the parameters. */
export async function overSignalR(source, tell, signal) {
  await useSocket({
    url: await source.address("ws", "/hubs/notifications", "access_token", signal),
    quietMs: 30_000,
    ping: { ms: 15_000, frame: () => record({ type: PING }) },
    begin(socket, done) {
      socket.send(record({ protocol: "json", version: 1 }));
      const subscribe = {
        type: INVOCATION,
        invocationId: SUBSCRIBING,
        target: "SubscribeToTask",
        arguments: [source.task],
      };
      const take = taker(tell, done, () => socket.send(record(subscribe)));
      return (text) => text.split(SEPARATOR).filter(Boolean).map(JSON.parse).forEach(take);
    },
    endOf: ({ code }) => new Lost(`The connection was closed: ${code}.`),
    signal,
  });
}

/** Give what takes each message; the first one answers the handshake. */
function taker(tell, done, subscribe) {
  let hasShakenHands = false;
  return (message) => {
    if (!hasShakenHands) {
      if (message.error) {
        throw new Refused(message.error);
      }
      hasShakenHands = true;
      subscribe();
    } else if (message.type === INVOCATION && message.target in EVENTS) {
      if (tell(EVENTS[message.target](message.arguments[0]))) {
        done();
      }
    } else if (message.type === COMPLETION && message.error) {
      throw new Refused(message.error);
    } else if (message.type === CLOSE) {
      throw new (message.allowReconnect ? Lost : Refused)(message.error ?? "The hub has closed.");
    }
  };
}

function record(message) {
  return JSON.stringify(message) + SEPARATOR;
}
