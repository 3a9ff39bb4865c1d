"""What there is beside tasks: queues, schedules, types, workers; and what they may be asked."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

from taskmill_client.binding import Bound, iteration, operation
from taskmill_client.pages import emit_pages
from taskmill_client.wire import Call, Flow, JsonObject, JsonObjects


def _same(raw: JsonObject) -> JsonObject:
    return raw


def _get(path: str, **query: Any) -> Call:
    return Call(method="GET", path=path, query=query)


def _post(path: str, body: JsonObject | None = None, *, is_repeatable: bool = True) -> Call:
    return Call(method="POST", path=path, body=body or {}, is_repeatable=is_repeatable)


def _queue_path(name: str, suffix: str = "") -> str:
    return f"/queues/{quote(name, safe='')}{suffix}"


def _schedule_path(schedule_id: str, suffix: str = "") -> str:
    return f"/schedules/{quote(str(schedule_id), safe='')}{suffix}"


class QueueOperations(Bound):
    """`client.queues`."""

    @operation
    def list(self) -> Flow[JsonObjects]:
        """Give all queues, by name."""
        return list((yield from self._exchange.json(_get("/queues")))["results"])

    @operation
    def get(self, /, name: str) -> Flow[JsonObject]:
        """Give a queue.

        Raises:
            NotFound: there is none of this name.
        """
        found: JsonObject = yield from self._exchange.json(_get(_queue_path(name)))
        return found

    @operation
    def pause(self, /, name: str, reason: str = "") -> Flow[JsonObject]:
        """Start none of its tasks any more; those that run go on."""
        call = _post(_queue_path(name, "/pause"), {"reason": reason})
        found: JsonObject = yield from self._exchange.json(call)
        return found

    @operation
    def resume(self, /, name: str) -> Flow[JsonObject]:
        """Start its tasks again."""
        found: JsonObject = yield from self._exchange.json(_post(_queue_path(name, "/resume")))
        return found


class ScheduleOperations(Bound):
    """`client.schedules`; an API key needs the scope `schedules:write`."""

    @iteration(dict[str, Any])
    def list(self, /, *, limit: int | None = None, **filters: Any) -> Flow[None]:
        """Give schedules in the order of their keys; filters are `status` and `q`."""
        yield from emit_pages(self._exchange, "/schedules", filters, limit=limit, make=_same)

    @operation
    def get(self, /, schedule_id: str) -> Flow[JsonObject]:
        """Give a schedule."""
        found: JsonObject = yield from self._exchange.json(_get(_schedule_path(schedule_id)))
        return found

    @operation
    def run(self, /, schedule_id: str, *, idempotency_key: str | None = None) -> Flow[JsonObject]:
        """Fire it now; gives `{"task_id": ...}`."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        path = _schedule_path(schedule_id, "/run")
        call = Call(method="POST", path=path, body={}, headers=headers)
        found: JsonObject = yield from self._exchange.json(call)
        return found

    @operation
    def pause(self, /, schedule_id: str, reason: str = "") -> Flow[JsonObject]:
        """Fire it no more."""
        call = _post(_schedule_path(schedule_id, "/pause"), {"reason": reason})
        found: JsonObject = yield from self._exchange.json(call)
        return found

    @operation
    def resume(self, /, schedule_id: str) -> Flow[JsonObject]:
        """Fire it again."""
        call = _post(_schedule_path(schedule_id, "/resume"))
        found: JsonObject = yield from self._exchange.json(call)
        return found


class TaskTypeOperations(Bound):
    """`client.task_types`."""

    @operation
    def list(self) -> Flow[JsonObjects]:
        """Give what can be submitted: descriptions, JSON Schemas, defaults."""
        return list((yield from self._exchange.json(_get("/task-types")))["results"])

    @operation
    def get(self, /, name: str) -> Flow[JsonObject]:
        """Give one type, with its statistics."""
        path = f"/task-types/{quote(name, safe='')}"
        found: JsonObject = yield from self._exchange.json(_get(path))
        return found


class WorkerOperations(Bound):
    """`client.workers`."""

    @operation
    def list(self) -> Flow[JsonObjects]:
        """Give the workers that report themselves."""
        return list((yield from self._exchange.json(_get("/workers")))["results"])


class ClientOperations(Bound):
    """What a client can do itself."""

    @operation
    def stats(self, /, window: str | None = None) -> Flow[JsonObject]:
        """Give the numbers of the platform, of the last `window` (such as `1h`)."""
        found: JsonObject = yield from self._exchange.json(_get("/stats", window=window))
        return found

    @operation
    def health(self) -> Flow[JsonObject]:
        """Give how each part of the platform is; a part that is down raises nothing here."""
        found: JsonObject = yield from self._exchange.health(_get("/health"))
        return found

    @operation
    def request(
        self,
        /,
        method: str,
        path: str,
        json: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Flow[Any]:
        """Ask for whatever has no method here, and give the decoded JSON; None without a body.

        Args:
            path: below `/api/v1`, such as `/dead-letters`.
            headers: with an `Idempotency-Key` a POST is repeated where no answer came.
        """
        call = Call(
            method=method.upper(),
            path="/" + path.removeprefix("/api/v1").lstrip("/"),
            query=params or {},
            body=json,
            headers=headers or {},
        )
        return (yield from self._exchange.json(call))
