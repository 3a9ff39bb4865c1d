// BullMQ's producer and reader, in a process of its own: `node client.mjs MODE ...`; prints one line of JSON.
// Modes: `submit CLIENTS SECONDS`, `bulk TASKS BYTES`, `latency SAMPLES`, `verify TASKS BYTES`, `empty`.
import { Queue, QueueEvents } from "bullmq";
import { QUEUE, connect, makePayload } from "./queue.mjs";

const JOBS_PER_CALL = 1000;
const JOBS_PER_PAGE = 500;
const BYTES_PER_PAGE = 20_000_000;
const queue = new Queue(QUEUE, { connection: connect() });

async function submit(clients, seconds) {
  const data = makePayload(0);
  await queue.add("echo", data);
  const start = performance.now();
  const end = start + seconds * 1000;
  let count = 0;
  async function one() {
    while (performance.now() < end) {
      await queue.add("echo", data);
      count += 1;
    }
  }
  await Promise.all(Array.from({ length: clients }, one));
  return { rate: (count / (performance.now() - start)) * 1000 };
}

async function bulk(tasks, textBytes) {
  const job = { name: "echo", data: makePayload(textBytes) };
  const most = textBytes ? Math.max(1, Math.floor(BYTES_PER_PAGE / textBytes)) : JOBS_PER_CALL;
  await queue.waitUntilReady();
  const start = performance.now();
  for (let left = tasks; left > 0; left -= most) {
    await queue.addBulk(Array(Math.min(most, left)).fill(job));
  }
  return { rate: (tasks / (performance.now() - start)) * 1000 };
}

async function latency(samples) {
  const events = new QueueEvents(QUEUE, { connection: connect() });
  await events.waitUntilReady();
  const data = makePayload(0);
  const milliseconds = [];
  for (let number = -5; number < samples; number += 1) {
    const start = performance.now();
    const job = await queue.add("echo", data);
    const answer = await job.waitUntilFinished(events, 60_000);
    if (number >= 0) milliseconds.push(performance.now() - start);
    if (JSON.stringify(answer) !== JSON.stringify(data)) throw new Error("wrong answer");
  }
  return { milliseconds };
}

async function verify(tasks, textBytes) {
  const expected = JSON.stringify(makePayload(textBytes));
  const most = textBytes ? Math.max(1, Math.floor(BYTES_PER_PAGE / textBytes)) : JOBS_PER_PAGE;
  let right = 0;
  let first = Infinity;
  let last = 0;
  for (let start = 0; start < tasks; start += most) {
    for (const job of await queue.getCompleted(start, start + most - 1)) {
      right += JSON.stringify(job.returnvalue) === expected;
      first = Math.min(first, job.processedOn);
      last = Math.max(last, job.finishedOn);
    }
  }
  return { right, seconds: Math.max(last - first, 1) / 1000 };
}

async function empty() {
  await queue.obliterate({ force: true });
  return {};
}

const [mode, ...words] = process.argv.slice(2);
const found = await { submit, bulk, latency, verify, empty }[mode](...words.map(Number));
console.log(JSON.stringify(found));
process.exit(0);
