// BullMQ's worker at its best: one process, 50 jobs at a time. `node worker.mjs`
import { Worker } from "bullmq";
import { QUEUE, connect } from "./queue.mjs";

const worker = new Worker(QUEUE, async (job) => job.data, { connection: connect(), concurrency: 50 });
worker.on("error", (error) => console.error(error));
process.on("SIGTERM", async () => {
  await worker.close();
  process.exit(0);
});
