// Runs the how-to's client in Node over a WebSocket and prints what it sees as JSON lines.
// Arguments: {"url", "user", "password", "prefix", "taskId"}; ends with the task, or when refused.
import { watchTask } from "./watch-task.mjs";

const options = JSON.parse(process.argv[2]);
const say = (kind, fields = {}) => console.log(JSON.stringify({ kind, ...fields }));

const client = watchTask({
  ...options,
  onMessage: (message) => {
    say("message", { event: message.event, status: message.status, sequence: message.sequence });
    if (message.event === "task.succeeded") client.end();
  },
  onRefused: (error) => {
    say("refused", { error: String(error) });
    client.end(true);
  },
});
client.on("connect", () => say("connected"));
