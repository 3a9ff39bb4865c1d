"""What there is beside tasks: queues, schedules, types, workers; and what they may be asked."""

from __future__ import annotations

from typing import Any

from taskmill_client.binding import Bound, iteration, operation
from taskmill_client.calls import get_call, keyed_call, named_path, post_call
from taskmill_client.pages import emit_pages
from taskmill_client.wire import Call, Flow, JsonObject, JsonObjects


def _same(raw: JsonObject) -> JsonObject:
    return raw


class QueueOperations(Bound):
    """`client.queues`."""

    @operation
    def list(self) -> Flow[JsonObjects]:
        """Give all queues, by name."""
        return list((yield from self._exchange.json(get_call("/queues")))["results"])

    @operation
    def get(self, /, name: str) -> Flow[JsonObject]:
        """Give a queue.

        Raises:
            NotFound: there is none of this name.
        """
        found: JsonObject = yield from self._exchange.json(get_call(named_path("queues", name)))
        return found

    @operation
    def pause(self, /, name: str, reason: str = "") -> Flow[JsonObject]:
        """Start none of its tasks any more; those that run go on."""
        call = post_call(
            named_path("queues", name, "/pause"), {"reason": reason}, is_repeatable=True
        )
        found: JsonObject = yield from self._exchange.json(call)
        return found

    @operation
    def resume(self, /, name: str) -> Flow[JsonObject]:
        """Start its tasks again."""
        call = post_call(named_path("queues", name, "/resume"), is_repeatable=True)
        found: JsonObject = yield from self._exchange.json(call)
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
        call = get_call(named_path("schedules", schedule_id))
        found: JsonObject = yield from self._exchange.json(call)
        return found

    @operation
    def run(self, /, schedule_id: str, *, idempotency_key: str | None = None) -> Flow[JsonObject]:
        """Fire it now; gives `{"task_id": ...}`."""
        call = keyed_call(named_path("schedules", schedule_id, "/run"), {}, idempotency_key)
        found: JsonObject = yield from self._exchange.json(call)
        return found

    @operation
    def pause(self, /, schedule_id: str, reason: str = "") -> Flow[JsonObject]:
        """Fire it no more."""
        path = named_path("schedules", schedule_id, "/pause")
        call = post_call(path, {"reason": reason}, is_repeatable=True)
        found: JsonObject = yield from self._exchange.json(call)
        return found

    @operation
    def resume(self, /, schedule_id: str) -> Flow[JsonObject]:
        """Fire it again."""
        call = post_call(named_path("schedules", schedule_id, "/resume"), is_repeatable=True)
        found: JsonObject = yield from self._exchange.json(call)
        return found


class TaskTypeOperations(Bound):
    """`client.task_types`."""

    @operation
    def list(self) -> Flow[JsonObjects]:
        """Give what can be submitted: descriptions, JSON Schemas, defaults."""
        return list((yield from self._exchange.json(get_call("/task-types")))["results"])

    @operation
    def get(self, /, name: str) -> Flow[JsonObject]:
        """Give one type, with its statistics."""
        call = get_call(named_path("task-types", name))
        found: JsonObject = yield from self._exchange.json(call)
        return found


class WorkerOperations(Bound):
    """`client.workers`."""

    @operation
    def list(self) -> Flow[JsonObjects]:
        """Give the workers that report themselves."""
        return list((yield from self._exchange.json(get_call("/workers")))["results"])


class ClientOperations(Bound):
    """What a client can do itself."""

    @operation
    def stats(self, /, window: str | None = None) -> Flow[JsonObject]:
        """Give the numbers of the platform, of the last `window` (such as `1h`)."""
        found: JsonObject = yield from self._exchange.json(get_call("/stats", window=window))
        return found

    @operation
    def health(self) -> Flow[JsonObject]:
        """Give how each part of the platform is; a part that is down raises nothing here."""
        found: JsonObject = yield from self._exchange.health(get_call("/health"))
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
