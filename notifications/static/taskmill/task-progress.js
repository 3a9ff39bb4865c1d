/**
 * `<task-progress>`: a task's progress, live, to its result or error. No dependency, no build step.
 *
 *   <script type="module" src="https://tasks.example.com/static/taskmill/task-progress.js"></script>
 *   <task-progress watch="{watch.ws_url of the submitted task}"></task-progress>
 *
 * Attributes: `watch`, or `task` and `token`; `transport` (websocket, sse, signalr, mqtt, polling);
 * `server` where it is not the one that this module came from; `label`; for MQTT `broker`, `prefix`,
 * `user`, and the property `password`. Events: `task-update` and `task-done` with the view as detail.
 */

import { Refused } from "./failures.js";
import { follow } from "./follow.js";
import { overMqtt } from "./over-mqtt.js";
import { overPolling } from "./over-polling.js";
import { overSignalR } from "./over-signalr.js";
import { overSse } from "./over-sse.js";
import { overWebSocket } from "./over-websocket.js";
import { Panel } from "./panel.js";
import { readWatchUrl, TaskSource } from "./task-source.js";
import { TaskView } from "./task-view.js";

const TRANSPORTS = {
  websocket: overWebSocket,
  sse: overSse,
  signalr: overSignalR,
  mqtt: overMqtt,
  polling: overPolling,
};

export class TaskProgress extends HTMLElement {
  static observedAttributes = [
    "watch", "task", "token", "transport", "server", "label", "broker", "prefix", "user",
  ];

  #panel = null;
  #watching = new AbortController();
  #isBeginning = false;
  #password = "";

  /** The broker's password, which has no place in the document. */
  set password(value) {
    this.#password = value;
    this.#beginSoon();
  }

  connectedCallback() {
    this.#panel ??= new Panel(this.attachShadow({ mode: "open" }));
    this.#beginSoon();
  }

  disconnectedCallback() {
    this.#watching.abort();
  }

  attributeChangedCallback(_name, before, after) {
    if (before !== after) {
      this.#beginSoon();
    }
  }

  /** Begin anew once all attributes that a page sets together are set. */
  #beginSoon() {
    if (!this.#isBeginning && this.isConnected) {
      this.#isBeginning = true;
      queueMicrotask(() => {
        this.#isBeginning = false;
        this.#watching.abort();
        if (this.isConnected) {
          this.#watch();
        }
      });
    }
  }

  async #watch() {
    this.#watching = new AbortController();
    const { signal } = this.#watching;
    const view = new TaskView();
    this.#panel.begin(this.getAttribute("label") ?? "Task");
    const { source, transport } = this.#wanted();
    if (!source.task || !(source.canLook || transport === overMqtt)) {
      return;
    }
    try {
      await follow({
        transport,
        source,
        show: (told) => this.#show(view, told),
        say: (word) => this.#panel.say(word),
        isComplete: () => view.isComplete,
        signal,
      });
      this.#panel.end();
      this.#dispatch("task-done", view);
    } catch (error) {
      if (!signal.aborted) {
        this.#panel.refuse(error instanceof Refused ? error.message : "This cannot be shown.");
        if (!(error instanceof Refused)) {
          throw error;
        }
      }
    }
  }

  #wanted() {
    const of = (name) => this.getAttribute(name) ?? "";
    const watch = this.hasAttribute("watch") ? readWatchUrl(of("watch")) : null;
    const source = new TaskSource({
      server: of("server") || watch?.server || new URL(import.meta.url).origin,
      task: watch?.task ?? of("task"),
      token: watch?.token ?? of("token"),
      mqtt: {
        broker: of("broker"),
        prefix: of("prefix"),
        user: of("user"),
        password: this.#password,
      },
    });
    const name = of("transport") || watch?.transport || "websocket";
    return { source, transport: TRANSPORTS[name] ?? overPolling };
  }

  #show(view, told) {
    view.update(told);
    this.#panel.show(view);
    this.#dispatch("task-update", view);
    return view.isDone;
  }

  #dispatch(type, { status, progress, message, result, error }) {
    const detail = { status, progress, message, result, error };
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

customElements.define("task-progress", TaskProgress);
