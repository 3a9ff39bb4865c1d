"""The tasks of the fake: what is known of them, and how they get from state to state."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from taskmill_client.configuration import API_PATH
from taskmill_client.testing.answers import Refused, invalid
from taskmill_client.wire import JsonObject, JsonObjects

ENDS: Final = {
    "success": "task.succeeded",
    "failed": "task.failed",
    "error": "task.error",
    "cancelled": "task.cancelled",
    "timeout": "task.timeout",
}
_SUBMITTED: Final = frozenset(
    {
        "type", "payload", "queue", "priority", "max_retry", "queue_timeout", "process_timeout",
        "concurrency_key", "max_concurrency", "concurrency_strategy", "fair_key", "delay", "run_at",
        "metadata", "tags", "unique", "debounce", "webhook_url", "webhook_urls", "retry",
    }
)  # fmt: skip
_UPDATED: Final = frozenset({"priority", "queue", "run_at", "tags", "metadata"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the tasks of a type end; `status` None for those that are held."""

    status: str | None
    result: Any = None
    error: JsonObject | None = None


@dataclass(slots=True, kw_only=True)
class Stored:
    """A task of the fake."""

    raw: JsonObject
    outcome: Outcome
    events: JsonObjects = field(default_factory=list)


class Store:
    """All tasks, in the order of their submission."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Callable[[Any], Outcome]] = {}
        self.tasks: dict[str, Stored] = {}
        self.paused: set[str] = set()

    def make(self, body: JsonObject) -> JsonObject:
        """Take a submission.

        Raises:
            Refused: a field is unknown, or the type was not scripted.
        """
        if unknown := sorted(body.keys() - _SUBMITTED):
            raise invalid(f"/{unknown[0]}", "extra_forbidden", "Extra inputs are not permitted")
        kind = body.get("type", "")
        if kind not in self.outcomes:
            raise Refused(
                404, "unknown_task_type", f"no handler is registered for the task type {kind!r}"
            )
        payload = body.get("payload") if body.get("payload") is not None else {}
        one = Stored(raw=_new_task(body, payload), outcome=self.outcomes[kind](payload))
        self.tasks[one.raw["id"]] = one
        self.happened(one, "task.created")
        return dict(one.raw)

    def find(self, task_id: str) -> Stored:
        """Give a task as it is.

        Raises:
            Refused: there is none with this id.
        """
        one = self.tasks.get(task_id)
        if one is None:
            raise Refused(404, "task_not_found", "There is no such task.")
        return one

    def look_at(self, task_id: str) -> Stored:
        """Give a task that is looked at: what was told of its type has come true."""
        one = self.find(task_id)
        is_due = one.raw["run_at"] is None and one.raw["queue"] not in self.paused
        if is_due and not one.raw["done"] and one.outcome.status is not None:
            self.start(one)
            self.end(one, one.outcome)
        return one

    def start(self, one: Stored) -> None:
        """Let it run, if it does not yet."""
        if one.raw["state"] != "running":
            one.raw |= {"status": "processing", "state": "running", "started_at": _now()}
            one.raw["attempt"] += 1
            self.happened(one, "task.started")

    def end(self, one: Stored, outcome: Outcome) -> None:
        """Let it end."""
        status = outcome.status or "success"
        one.raw |= {"status": status, "state": status, "done": True, "finished_at": _now()}
        one.raw |= {"result": outcome.result, "error": outcome.error}
        if status == "success":
            one.raw["progress"] = 100.0
        self.happened(one, ENDS[status])

    def happened(self, one: Stored, kind: str, **data: Any) -> None:
        """Note an event; the task has another version."""
        number = len(one.events) + 1
        one.raw["version"] += 1
        one.raw["updated_at"] = _now()
        state = {name: one.raw[name] for name in ("state", "status", "attempt")}
        one.events.append(_event(one, f"{one.raw['id']}.{number}", kind, number, state | data))

    def cancel(self, task_id: str, body: JsonObject) -> Stored:
        """Cancel a task.

        Raises:
            Refused: it has finished.
        """
        one = self.find(task_id)
        if one.raw["done"]:
            words = f"the task is {one.raw['state']}; it cannot be cancelled"
            if one.raw["state"] == "cancelled":
                return one
            raise Refused(409, "state_conflict", words)
        error = {"code": "CANCELLED", "type": "taskmill", "message": body.get("reason", "")}
        self.end(one, Outcome(status="cancelled", error=error))
        return one

    def update(self, task_id: str, body: JsonObject, version: str | None) -> Stored:
        """Change a task that waits.

        Args:
            version: the ETag that it must have; None for any.

        Raises:
            Refused: it does not wait any more, has another version, or a field is unknown.
        """
        if unknown := sorted(body.keys() - _UPDATED):
            raise invalid(f"/{unknown[0]}", "extra_forbidden", "Extra inputs are not permitted")
        one = self.find(task_id)
        if version not in {None, f'"{one.raw["version"]}"'}:
            raise Refused(412, "precondition_failed", "The task changed; read it again.")
        if one.raw["status"] != "pending":
            words = f"the task is {one.raw['state']}; only a waiting one can be changed"
            raise Refused(409, "state_conflict", words)
        values = dict(body)
        if "metadata" in body:
            values["metadata"] = _merged(one.raw["metadata"], body["metadata"]) or {}
        if "tags" in body:
            values["tags"] = body["tags"] or []
        if "run_at" in body:
            values["state"] = "scheduled" if body["run_at"] else "queued"
        one.raw |= values
        self.happened(one, "task.updated", **body)
        return one

    def rerun(self, task_id: str, body: JsonObject) -> JsonObject:
        """Submit a task like another one.

        Raises:
            Refused: there is no such task, or its type is not scripted.
        """
        old = self.find(task_id).raw
        taken = {name: old[name] for name in _SUBMITTED & old.keys() if name != "run_at"}
        made = self.make({**taken, **body})
        self.tasks[made["id"]].raw["retry_of"] = old["id"]
        return made | {"retry_of": old["id"]}

    def retry(self, task_id: str, body: JsonObject) -> Stored:
        """Queue a task that did not succeed once more, with another payload where one is given.

        Raises:
            Refused: it has not finished, or it succeeded.
        """
        one = self.look_at(task_id)
        if not one.raw["done"] or one.raw["status"] == "success":
            words = f"the task is {one.raw['state']}; it cannot be retried"
            raise Refused(409, "state_conflict", words)
        one.raw |= {"status": "pending", "state": "queued", "done": False, "finished_at": None}
        one.raw |= {name: body[name] for name in body if name == "payload"}
        one.outcome = self.outcomes[one.raw["type"]](one.raw["payload"])
        self.happened(one, "task.redriven")
        return one


def _now() -> str:
    return datetime.now(tz=UTC).isoformat().replace("+00:00", "Z")  # noqa: TID251 - a fake's clock


def _merged(old: Any, patch: Any) -> Any:
    """Merge as RFC 7386 says."""
    if not isinstance(patch, dict):
        return patch
    merged = {**old} if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _new_task(body: Mapping[str, Any], payload: Any) -> JsonObject:
    task_id = str(uuid.uuid4())
    is_later = bool(body.get("delay") or body.get("run_at"))
    nothing = dict.fromkeys(
        (
            "progress_detail", "started_at", "finished_at", "cancel_requested_at", "result",
            "error", "worker", "schedule", "retry_of", "parent", "waiting", "queue_timeout",
            "concurrency_key", "max_concurrency", "fair_key",
        )
    )  # fmt: skip
    given = {name: value for name, value in body.items() if name in nothing and value is not None}
    path = f"{API_PATH}/tasks/{task_id}"
    return {
        **nothing,
        **given,
        "id": task_id,
        "type": body["type"],
        "payload": payload,
        "queue": body.get("queue") or "default",
        "priority": body.get("priority") or 0,
        "status": "pending",
        "state": "scheduled" if is_later else "queued",
        "done": False,
        "version": 0,
        "progress": 0.0,
        "progress_message": "",
        "attempt": 0,
        "max_retry": 3 if body.get("max_retry") is None else body["max_retry"],
        "created_at": _now(),
        "updated_at": _now(),
        "run_at": body.get("run_at") or (_now() if is_later else None),
        "process_timeout": body.get("process_timeout") or 60,
        "metadata": body.get("metadata") or {},
        "tags": body.get("tags") or [],
        "links": {"self": path, "cancel": f"{path}/cancel", "stream": f"{path}/stream"},
    }


def _event(one: Stored, event_id: str, kind: str, number: int, data: JsonObject) -> JsonObject:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": f"{API_PATH}/tasks",
        "type": kind,
        "subject": one.raw["id"],
        "time": _now(),
        "datacontenttype": "application/json",
        "sequence": number,
        "data": data,
    }


def snapshot(one: Stored) -> JsonObject:
    """Give the event that shows a task as it is."""
    number = len(one.events)
    name = f"{one.raw['id']}.{number}.snapshot"
    return _event(one, name, "task.snapshot", number, dict(one.raw))


def fits(raw: JsonObject, query: Mapping[str, list[str]]) -> bool:
    """Say whether a task fits the filters of a list."""
    exact = ("status", "state", "type", "queue", "schedule", "parent", "concurrency_key")
    for name in exact:
        if name in query and str(raw[name]) not in ",".join(query[name]).split(","):
            return False
    return set(query.get("tag", ())) <= set(raw["tags"])
