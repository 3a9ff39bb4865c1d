/** One WebSocket as a promise: settled when the task is done or the socket has ended. */

import { Lost } from "./failures.js";

/**
 * @param {object} of
 * @param {string} of.url
 * @param {string[]} of.protocols
 * @param {number} of.quietMs without a message for so long, the socket counts as lost
 * @param {(socket: WebSocket, done: () => void) => ((data: any) => void)} of.begin
 *   called when it is open; gives what takes each message
 * @param {(event: CloseEvent) => Error | null} of.endOf the error that a close means, null for none
 * @param {{ms: number, frame: () => any}} of.ping sent when so long nothing was heard
 */
export function useSocket({ url, protocols = [], quietMs, begin, endOf, ping, signal }) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const socket = new WebSocket(url, protocols);
    socket.binaryType = "arraybuffer";
    let take = () => {};
    let heardAt = performance.now();
    const clock = setInterval(mindTheClock, ping.ms);

    function end(error) {
      clearInterval(clock);
      signal.removeEventListener("abort", abort);
      socket.onmessage = socket.onclose = socket.onopen = null;
      if (socket.readyState < WebSocket.CLOSING) {
        socket.close();
      }
      error ? reject(error) : resolve();
    }
    function abort() {
      end(signal.reason);
    }
    function mindTheClock() {
      if (performance.now() - heardAt > quietMs) {
        end(new Lost("The connection is silent."));
      } else if (socket.readyState === WebSocket.OPEN) {
        socket.send(ping.frame());
      }
    }
    signal.addEventListener("abort", abort, { once: true });
    socket.onopen = () => {
      take = begin(socket, () => end(null));
    };
    socket.onmessage = ({ data }) => {
      heardAt = performance.now();
      try {
        take(data);
      } catch (error) {
        end(error);
      }
    };
    socket.onclose = (event) => end(endOf(event));
  });
}
