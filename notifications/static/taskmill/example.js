/**
 * The form of the example pages: watches a task, or starts one first where an API key is given.
 *
 * `#task=..&token=..` in the address does the same without the form. An API key never gets there.
 */

import "./task-progress.js";

const API_KEY = /^tm_/;
const form = document.querySelector("form");
const fields = form.elements;
const bars = [...document.querySelectorAll("task-progress")];
const note = document.querySelector("#note");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  note.textContent = "";
  try {
    show(fields.task.value.trim() ? entered() : await started(fields.token.value.trim()));
  } catch (error) {
    note.textContent = error.message;
  }
});
addEventListener("hashchange", showAddressed);
showAddressed();

function entered() {
  return { task: fields.task.value.trim(), token: fields.token.value.trim() };
}

async function started(token) {
  if (!API_KEY.test(token)) {
    throw new Error("Enter a task's id, or an API key with which to start a task.");
  }
  const answer = await fetch("/api/v1/tasks", {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ type: "example", payload: { steps: 10, delay: 0.5 } }),
  });
  const body = await answer.json();
  if (!answer.ok) {
    throw new Error(body.detail);
  }
  return { task: body.id, token: body.watch.token };
}

function showAddressed() {
  const { task, token = "" } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (task) {
    fields.task.value = task;
    fields.token.value = token;
    show({ task, token });
  }
}

function show({ task, token }) {
  for (const bar of bars) {
    for (const name of ["broker", "prefix", "user"]) {
      if (fields[name]) {
        bar.setAttribute(name, fields[name].value.trim());
      }
    }
    if (fields.password) {
      bar.password = fields.password.value;
    }
    bar.setAttribute("task", task);
    bar.setAttribute("token", token);
  }
  if (!API_KEY.test(token)) {
    keep(new URLSearchParams(token ? { task, token } : { task }));
  }
}

/** Let the address, and the links to the other pages, show the same task. */
function keep(what) {
  history.replaceState(null, "", `#${what}`);
  for (const link of document.querySelectorAll("nav a")) {
    link.hash = what;
  }
}
