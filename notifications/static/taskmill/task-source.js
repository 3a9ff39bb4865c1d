/** Where a task is watched, and with which token. */

import { Lost, Refused } from "./failures.js";

const API = "/api/v1";
const API_KEY = /^tm_/;
const SPARE_MS = 30_000;
const WATCH_PATH = /^(.*)(?:\/api\/v1|\/ws\/v1)\/tasks\/([0-9a-f-]{36})(\/stream)?$/i;

/**
 * Read `watch.stream_url` or `watch.ws_url` of a submitted task.
 * @returns {{server: string, task: string, token: string, transport: string} | null}
 */
export function readWatchUrl(text) {
  const url = URL.parse?.(text) ?? new URL(text, "about:blank");
  const found = WATCH_PATH.exec(url.pathname);
  if (!found) {
    return null;
  }
  return {
    server: `${url.protocol.replace(/^ws/, "http")}//${url.host}${found[1]}`,
    task: found[2],
    token: url.searchParams.get("token") ?? "",
    transport: found[3] ? "sse" : "websocket",
  };
}

export class TaskSource {
  #minted = null;

  /**
   * @param {object} from
   * @param {string} from.server where the platform is: `https://tasks.example.com`
   * @param {string} from.task the task's id
   * @param {string} from.token a watch token; an API key is exchanged for one first
   * @param {{broker: string, prefix: string, user: string, password: string}} from.mqtt
   */
  constructor({ server, task, token = "", mqtt }) {
    this.server = server.replace(/\/+$/, "");
    this.task = task;
    this.token = token;
    this.mqtt = mqtt;
  }

  /** Whether the task can be read; over MQTT it may be watched without. */
  get canLook() {
    return this.token !== "";
  }

  /** Give a watch token that is good for a while yet. */
  async watchToken(signal) {
    if (!API_KEY.test(this.token)) {
      return this.token;
    }
    if (this.#minted === null || Date.parse(this.#minted.expires_at) - SPARE_MS < Date.now()) {
      const headers = { Authorization: `Bearer ${this.token}` };
      const path = `/tasks/${this.task}/watch-tokens`;
      this.#minted = await (await this.#fetch(path, { method: "POST", headers, signal })).json();
    }
    return this.#minted.token;
  }

  /** Give the address of a transport with the token in it; `kind` is "http" or "ws". */
  async address(kind, path, parameter, signal) {
    const token = encodeURIComponent(await this.watchToken(signal));
    return `${this.server.replace(/^http/, kind)}${path}?${parameter}=${token}`;
  }

  /**
   * Read the task.
   * @param {string} etag what is known; with it the answer waits for a change, `seconds` at most
   * @returns {Promise<{task: object | null, etag: string}>} no task where nothing has changed
   */
  async look({ etag = "", seconds = 0, signal } = {}) {
    const headers = etag ? { "If-None-Match": etag, Prefer: `wait=${seconds}` } : {};
    const token = encodeURIComponent(await this.watchToken(signal));
    const answer = await this.#fetch(`/tasks/${this.task}?token=${token}`, { headers, signal });
    const task = answer.status === 304 ? null : await answer.json();
    return { task, etag: answer.headers.get("ETag") ?? etag };
  }

  async #fetch(path, options) {
    let answer;
    try {
      answer = await fetch(`${this.server}${API}${path}`, { cache: "no-store", ...options });
    } catch (error) {
      throw new Lost("The server does not answer.", { cause: error });
    }
    if (answer.ok || answer.status === 304) {
      return answer;
    }
    const problem = await answer.json().catch(() => ({}));
    const reason = problem.detail ?? `The server answers ${answer.status}.`;
    const mayPass = answer.status === 429 || answer.status >= 500;
    throw new (mayPass ? Lost : Refused)(reason);
  }
}
