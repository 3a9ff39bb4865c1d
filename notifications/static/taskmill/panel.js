/** What a visitor sees of a task; knows nothing of how it is watched. */

const STATUSES = {
  "": ["…", "Waiting for news"],
  pending: ["○", "Pending"],
  processing: ["▶", "Processing"],
  success: ["✓", "Succeeded"],
  failed: ["✕", "Failed"],
  error: ["!", "Error"],
  cancelled: ["–", "Cancelled"],
  timeout: ["⧖", "Timed out"],
};
const CONNECTIONS = {
  connecting: "Connecting",
  live: "Live",
  polling: "Polling",
  reconnecting: "Reconnecting",
};

const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
  :host {
    color-scheme: light dark;
    --task-text: light-dark(#1c2430, #e6eaf0);
    --task-quiet: light-dark(#5a6473, #a3adbb);
    --task-track: light-dark(#e4e8ee, #2a323f);
    --task-active: light-dark(#1553b6, #8ab6ff);
    --task-good: light-dark(#17693a, #7fd6a0);
    --task-bad: light-dark(#a8201a, #ff9d94);
    display: block;
    font: 1rem/1.5 system-ui, sans-serif;
    color: var(--task-text);
  }
  :host([hidden]) { display: none; }
  .line { display: flex; gap: 0.6em; align-items: baseline; margin: 0 0 0.4em; }
  .status { font-weight: 600; color: var(--task-active); }
  .status[data-tone="good"] { color: var(--task-good); }
  .status[data-tone="bad"] { color: var(--task-bad); }
  .mark { display: inline-block; min-width: 1.2em; }
  .percent { margin-inline-start: auto; font-variant-numeric: tabular-nums; }
  .bar {
    height: 0.7em; overflow: hidden; border: 1px solid var(--task-quiet); border-radius: 0.4em;
    background: var(--task-track);
  }
  .filled {
    height: 100%; width: 100%; background: var(--task-active); transform-origin: left;
    transform: scaleX(0);
  }
  .filled:dir(rtl) { transform-origin: right; }
  .filled[data-tone="good"] { background: var(--task-good); }
  .filled[data-tone="bad"] { background: var(--task-bad); }
  .message, .connection { min-height: 1.5em; margin: 0.4em 0 0; overflow-wrap: anywhere; }
  .below { display: flex; justify-content: space-between; gap: 1em; }
  .connection { flex: none; color: var(--task-quiet); font-size: 0.875em; }
  .outcome {
    max-height: 16em; margin: 0.6em 0 0; padding: 0.6em 0.8em; overflow: auto;
    border-inline-start: 3px solid var(--task-good); background: var(--task-track);
    font: 0.875em/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  }
  .outcome[data-tone="bad"] { border-color: var(--task-bad); }
  .outcome[hidden] { display: none; }
  .spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  @media (prefers-reduced-motion: no-preference) { .filled { transition: transform 0.25s; } }
  @media (forced-colors: active) { .filled { background: Highlight; forced-color-adjust: none; } }
`);

export class Panel {
  #parts;
  #isOver = false;

  constructor(root) {
    root.adoptedStyleSheets = [STYLE];
    const mark = made("span", "mark");
    mark.ariaHidden = "true";
    const word = made("span", "word");
    const status = made("span", "status", mark, word);
    const percent = made("span", "percent");
    const filled = made("div", "filled");
    const bar = made("div", "bar", filled);
    bar.setAttribute("role", "progressbar");
    bar.ariaValueMin = "0";
    bar.ariaValueMax = "100";
    const message = made("p", "message");
    const connection = made("p", "connection");
    const outcome = made("pre", "outcome");
    outcome.tabIndex = 0;
    const spoken = made("p", "spoken");
    spoken.setAttribute("role", "status");
    const below = made("div", "below", message, connection);
    root.append(made("p", "line", status, percent), bar, below, outcome, spoken);
    this.#parts = { mark, word, status, percent, filled, bar, message, connection, outcome, spoken };
  }

  /** Show that nothing is known yet. */
  begin(label) {
    this.#isOver = false;
    this.#parts.bar.ariaLabel = this.#parts.outcome.ariaLabel = label;
    this.#parts.spoken.textContent = "";
    this.show({ status: "", progress: 0, message: "", result: undefined, error: null });
    this.say("connecting");
  }

  /** @param {import("./task-view.js").TaskView} view */
  show({ status, progress, message, result, error }) {
    const { mark, word, percent, filled, bar, spoken } = this.#parts;
    const [sign, name] = STATUSES[status] ?? ["?", status];
    const rounded = Math.floor(progress);
    if (status && word.textContent !== name) {
      spoken.textContent = name; // of each step but the status a screen reader would speak too much
    }
    mark.textContent = sign;
    word.textContent = name;
    percent.textContent = `${rounded} %`;
    filled.style.transform = `scaleX(${progress / 100})`;
    bar.ariaValueNow = String(rounded);
    bar.ariaValueText = [`${rounded} %`, name, message].filter(Boolean).join(", ");
    this.#parts.message.textContent = message;
    this.#tone(toneOf(status));
    this.#showOutcome(status, result, error);
  }

  /** Say how the news come: "connecting", "live", "polling", "reconnecting". */
  say(word) {
    if (!this.#isOver) {
      this.#parts.connection.textContent = CONNECTIONS[word];
    }
  }

  /** Say that there will be no more news. */
  end() {
    this.#isOver = true;
    this.#parts.connection.textContent = "";
  }

  /** Say why the task cannot be watched. */
  refuse(reason) {
    this.end();
    this.#parts.mark.textContent = "✕";
    this.#parts.word.textContent = "Not shown";
    this.#parts.message.textContent = this.#parts.spoken.textContent = reason;
    this.#tone("bad");
  }

  #tone(tone) {
    for (const part of [this.#parts.status, this.#parts.filled, this.#parts.outcome]) {
      part.dataset.tone = tone;
    }
  }

  #showOutcome(status, result, error) {
    const { outcome } = this.#parts;
    const isBad = toneOf(status) === "bad";
    const text = isBad ? textOf(error) : result === undefined ? "" : JSON.stringify(result, null, 2);
    outcome.textContent = text;
    outcome.hidden = text === "";
  }
}

function toneOf(status) {
  return { "": "", pending: "", processing: "", success: "good" }[status] ?? "bad";
}

function textOf(error) {
  return error ? [error.code, error.message].filter(Boolean).join(": ") : "";
}

function made(tag, name, ...children) {
  const element = document.createElement(tag);
  element.className = name;
  element.setAttribute("part", name);
  element.append(...children);
  return element;
}
