"""Writes the pages of docs/reference that derive from the code: settings, errors, metrics,
states, the command.

`python docs/generate.py` writes them (`make docs`); a test compares `pages()` with the files.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
TRANSITIONS_MARK = "<!-- transitions -->\n"

sys.path[:0] = [str(ROOT), str(ROOT / "docs"), str(ROOT / "client")]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")  # noqa: TID251 - how Django is told its settings

import django  # noqa: E402 - the path has to be set first

django.setup()

from command_page import command_page  # noqa: E402 - as above

from notifications.conf import NotificationsConf  # noqa: E402 - as above
from notifications.http_requests.conf import HttpRequestConf  # noqa: E402 - as above
from notifications.messages.conf import MessagesConf  # noqa: E402 - as above
from notifications.mqtt.conf import MqttConf  # noqa: E402 - as above
from notifications.webhooks.conf import WebhooksConf  # noqa: E402 - as above
from scheduler import errors as scheduler_errors  # noqa: E402 - as above
from scheduler.conf import SchedulerConf  # noqa: E402 - as above
from scheduler.reports.conf import ReportsConf  # noqa: E402 - as above
from tasks_app import conf, errors  # noqa: E402 - as above
from tasks_app.metrics import PROCESS_METRICS, Metric, metric_sources  # noqa: E402 - as above
from tasks_app.services.measuring import SOURCE_UP  # noqa: E402 - as above
from tasks_app.states import TRANSITIONS  # noqa: E402 - as above

SETTINGS = (
    ("Tasks", conf.TasksConf, "TASKMILL_"),
    ("Live updates and notification", NotificationsConf, "TASKMILL_"),
    ("Webhooks", WebhooksConf, "TASKMILL_WEBHOOK_"),
    ("Tasks that call a URL", HttpRequestConf, "TASKMILL_HTTP_REQUEST_"),
    ("Messages to people", MessagesConf, "TASKMILL_NOTIFY_"),
    ("MQTT", MqttConf, "MQTT_"),
    ("Schedules", SchedulerConf, "TASKMILL_SCHEDULER_"),
    ("Reports", ReportsConf, "TASKMILL_REPORT_"),
)
"""Tables of settings.md: heading, dataclass, what stands before the names of its variables."""

ERROR_MODULES = (errors.__name__, scheduler_errors.__name__)

_SETTINGS_HEAD = """# Settings of the task platform

Each is an environment variable. A value of the wrong type or out of bounds refuses the start, with
a line that names the variable and the fix; a name that is nearly one of them is told of by
`manage.py check`. What else processes read of their environment: [environment](environment.md).
Generated from the `conf.py` of each app by `make docs`.
"""

_METRICS_HEAD = """# Metrics

What `GET /metrics` shows; [how to scrape it](../how-to/watch-with-prometheus.md). Generated from
what the apps declare by `make docs`.

## Of the installation

Gauges, the same from every web process.

| metric | labels | meaning |
|---|---|---|
"""

_PROCESS_HEAD = """
## Of the web process that answers

Beside these it shows `process_*` of the Prometheus client: memory, processor time, open files.

| metric | type | labels | meaning |
|---|---|---|---|
"""

_TABLE_HEAD = "| variable | default | bounds | meaning |\n|---|---|---|---|\n"

_ERRORS_HEAD = """# Errors

Every error answer is a problem document (RFC 9457); `code` is stable, the text may change.
*Retry* says whether the same request may succeed later. Generated from the `errors.py` of each app
by `make docs`.

| code | status | retry | meaning |
|---|---|---|---|
"""


def pages() -> dict[Path, str]:
    """Give the generated pages by their path."""
    states = REFERENCE / "states.md"
    head = states.read_text(encoding="utf-8").partition(TRANSITIONS_MARK)[0]
    return {
        REFERENCE / "settings.md": _SETTINGS_HEAD + "".join(_setting_tables()),
        REFERENCE / "cli.md": command_page(),
        REFERENCE / "metrics.md": _METRICS_HEAD + "".join(_metric_rows()),
        REFERENCE / "errors.md": _ERRORS_HEAD + "".join(_error_rows()),
        states: head + TRANSITIONS_MARK + transitions_table(),
    }


def transitions_table() -> str:
    """Give the table of verbs as it stands in states.md."""
    rows = ["\n| verb | from | to |\n|---|---|---|\n"]
    for verb, moves in TRANSITIONS.items():
        for start in sorted(moves, key=str):
            ends = ", ".join(sorted(moves[start]))
            rows.append(f"| {verb} | {start or '-'} | {ends} |\n")
    return "".join(rows)


def _setting_tables() -> Iterator[str]:
    for heading, kind, prefix in SETTINGS:
        yield f"\n## {heading}\n\n{_TABLE_HEAD}"
        for item in dataclasses.fields(kind):
            yield (
                f"| `{prefix}{item.name.upper()}` | `{_shown(item.default)}` | {_bounds(item)} |"
                f" {item.metadata['doc']} |\n"
            )


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(default) or "(none)"
    return str(default) or "(none)"


def _bounds(item: dataclasses.Field[object]) -> str:
    least, most = item.metadata["least"], item.metadata["most"]
    return "" if least is None else f"{least} to {most}"


def _metric_rows() -> Iterator[str]:
    metrics = [metric for source in metric_sources() for metric in source.metrics]
    for metric in (*metrics, SOURCE_UP):
        yield f"| `{metric.name}` | {_labels(metric)} | {metric.doc} |\n"
    yield _PROCESS_HEAD
    for family in PROCESS_METRICS.collect():
        if family.name.startswith("taskmill_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(sorted({f"`{one}`" for s in family.samples for one in s.labels}))
            yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n"


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in metric.labels)


def error_classes() -> list[type[errors.TaskmillError]]:
    """Give every class of the tree, the root first, then in the order of code."""
    found = [errors.TaskmillError]
    for one in found:
        found += [child for child in one.__subclasses__() if child.__module__ in ERROR_MODULES]
    return sorted(set(found), key=lambda one: one.code)


def _error_rows() -> Iterator[str]:
    for one in error_classes():
        meaning = (inspect.getdoc(one) or "").split("\n\n")[0].replace("\n", " ")
        retry = "yes" if one.is_retryable else "no"
        yield f"| `{one.code}` | {one.http_status} | {retry} | {meaning} |\n"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
