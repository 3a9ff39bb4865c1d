// Runs the how-to's client in Node and prints what it sees as JSON lines.
// Arguments: {"url", "token", "taskIds", "leave", "skipNegotiation"}; ends when nothing is left open.
import { HttpTransportType, HubConnectionBuilder, LogLevel } from "@microsoft/signalr";
import { watchTasks } from "./watch-tasks.mjs";

const options = JSON.parse(process.argv[2]);
const say = (kind, fields = {}) => console.log(JSON.stringify({ kind, ...fields }));

if (options.skipNegotiation) {
  const connection = new HubConnectionBuilder()
    .withUrl(`${options.url}/hubs/notifications`, {
      accessTokenFactory: () => options.token,
      skipNegotiation: true,
      transport: HttpTransportType.WebSockets,
    })
    .configureLogging(LogLevel.None)
    .build();
  await connection.start().then(
    () => say("connected"),
    (error) => say("refused", { error: String(error) }),
  );
  await connection.stop();
} else {
  const open = new Set(options.taskIds);
  let finished;
  const allDone = new Promise((resolve) => (finished = resolve));
  const ended = (kind) => (fields) => {
    say(kind, fields);
    open.delete(fields.taskId);
    if (open.size === 0) finished();
  };
  try {
    const connection = await watchTasks({
      ...options,
      onProgress: (fields) => say("progress", fields),
      onCompleted: ended("completed"),
      onFailed: ended("failed"),
    });
    connection.onreconnecting(() => say("reconnecting"));
    connection.onreconnected(() => say("reconnected"));
    connection.onclose((error) => {
      say("closed", { error: String(error ?? "") });
      finished();
    });
    say("connected");
    if (options.leave) {
      await connection.invoke("UnsubscribeFromTask", options.leave);
      await connection.invoke("NoSuchMethod").catch((error) => say("error", { error: String(error) }));
      say("left");
    }
    await allDone;
    await connection.stop();
  } catch (error) {
    say("refused", { error: String(error) });
    process.exit(0);
  }
}
