// What worker and client share: the queue, its connection, the payload.
import IORedis from "ioredis";

export const QUEUE = "peer";

export function connect() {
  const { PEER_REDIS_SOCKET, PEER_REDIS_DATABASE } = process.env;
  return new IORedis({ path: PEER_REDIS_SOCKET, db: Number(PEER_REDIS_DATABASE), maxRetriesPerRequest: null });
}

export function makePayload(textBytes) {
  return { message: "x".repeat(textBytes) || "hello", number: 42 };
}
