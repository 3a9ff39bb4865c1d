/** What is known of a task, put together from whatever a transport tells. */

const FINISHED = new Set(["success", "failed", "error", "cancelled", "timeout"]);
const AT_ZERO = new Set(["task.created", "task.started", "task.redriven"]);

export class TaskView {
  constructor() {
    /** One of the seven public statuses; "" until something is known. */
    this.status = "";
    /** Percent. */
    this.progress = 0;
    this.message = "";
    /** What the handler returned; undefined until it is known. */
    this.result = undefined;
    /** `{code, message}` of a task that did not succeed. */
    this.error = null;
  }

  /** Whether the task has ended, however it ended. */
  get isDone() {
    return FINISHED.has(this.status);
  }

  /** Whether nothing more is to be learnt. */
  get isComplete() {
    return this.isDone && (this.status !== "success" || this.result !== undefined);
  }

  /**
   * Take what is told; members that are missing stay as they are.
   * @param {{status?: string, progress?: number, message?: string, result?: any, error?: any}} told
   */
  update(told) {
    for (const name of ["status", "progress", "message", "result", "error"]) {
      if (told[name] !== undefined) {
        this[name] = told[name];
      }
    }
    if (this.status === "success") {
      this.progress = 100;
    }
  }
}

/** Give what a task object of the API tells. */
export function toldByTask(task) {
  return {
    status: task.status,
    progress: task.progress,
    message: task.progress_message,
    result: task.status === "success" ? task.result : undefined,
    error: task.error,
  };
}

/** Give what a CloudEvent of the feed tells. */
export function toldByEvent({ type, data }) {
  if (type === "task.snapshot") {
    return toldByTask(data);
  }
  const told = { status: data.status, error: data.error };
  if (type === "task.progress") {
    return { ...told, progress: data.progress, message: data.message };
  }
  return AT_ZERO.has(type) ? { ...told, progress: 0, message: "", error: null } : told;
}
