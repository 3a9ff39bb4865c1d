"""The fake server: scripted, and asked over HTTPX."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Final

import httpx

from taskmill_client.async_side import AsyncClient
from taskmill_client.configuration import API_PATH
from taskmill_client.events import FINAL_EVENTS
from taskmill_client.sync_side import Client
from taskmill_client.testing.answers import (
    URL,
    Refusal,
    Refused,
    body_of,
    json_answer,
    problem_answer,
    queries_of,
    query_of,
)
from taskmill_client.testing.store import Outcome, Store, Stored, fits, snapshot
from taskmill_client.wire import JsonObject, JsonObjects, encode

TOKEN: Final = "tm_test_fake"  # noqa: S105 - opens nothing


class FakeServer:
    """Script it with `succeeds`, `fails`, `holds` and `refuses_next`; ask it through `client()`.

    A type that was not scripted is unknown, as one without a handler is.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._store = Store()
        self._replays: dict[tuple[str, str], tuple[bytes, JsonObject]] = {}
        self._refusals: list[Refusal] = []

    # Scripting

    def succeeds(self, task_type: str, result: Any = None) -> None:
        """Tasks of this type succeed with a result; a callable makes it of the payload."""

        def outcome(payload: Any) -> Outcome:
            return Outcome(status="success", result=result(payload) if callable(result) else result)

        self._store.outcomes[task_type] = outcome

    def fails(
        self,
        task_type: str,
        code: str = "HANDLER_ERROR",
        message: str = "",
        *,
        status: str = "failed",
    ) -> None:
        """Tasks of this type end without a result: as `failed`, `error`, `timeout`, `cancelled`."""
        error = {"code": code, "type": "fake", "message": message or code, "retryable": False}
        outcome = Outcome(status=status, error={**error, "attempt": 1})
        self._store.outcomes[task_type] = lambda _payload: outcome

    def holds(self, task_type: str) -> None:
        """Tasks of this type stay as they are until `report` or `finish` is called."""
        self._store.outcomes[task_type] = lambda _payload: Outcome(status=None)

    def refuses_next(
        self,
        status: int,
        code: str = "unavailable",
        detail: str = "as told",
        *,
        retry_after: float | None = None,
        times: int = 1,
    ) -> None:
        """Answer the next requests with a problem."""
        refusal = Refusal(status=status, code=code, detail=detail, retry_after=retry_after)
        self._refusals += [refusal] * times

    def report(self, task_id: str, percent: float, message: str = "", **detail: Any) -> None:
        """Let a held task run and report how far it is."""
        with self._lock:
            one = self._store.tasks[task_id]
            self._store.start(one)
            one.raw |= {"progress": percent, "progress_message": message}
            one.raw["progress_detail"] = detail or None
            data = {"progress": percent, "message": message, **detail}
            self._store.happened(one, "task.progress", **data)

    def finish(
        self,
        task_id: str,
        result: Any = None,
        *,
        status: str = "success",
        error: JsonObject | None = None,
    ) -> None:
        """Let a held task end."""
        with self._lock:
            one = self._store.tasks[task_id]
            self._store.start(one)
            self._store.end(one, Outcome(status=status, result=result, error=error))

    @property
    def submitted(self) -> JsonObjects:
        """The tasks that were submitted, the oldest first, as they are now."""
        with self._lock:
            return [dict(one.raw) for one in self._store.tasks.values()]

    # Asking

    def client(self, **options: Any) -> Client:
        """Give a client of this server; options are those of `Client`."""
        http = httpx.Client(transport=self.transport())
        return Client(URL, TOKEN, http=http, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        """Give an asynchronous client of this server."""
        http = httpx.AsyncClient(transport=self.transport())
        return AsyncClient(URL, TOKEN, http=http, **options)

    def transport(self) -> httpx.MockTransport:
        """Give the transport, for an HTTPX client that is made elsewhere."""
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            try:
                return self._routed(request)
            except Refused as error:
                return problem_answer(request, error.refusal)

    def _routed(self, request: httpx.Request) -> httpx.Response:
        if self._refusals:
            return problem_answer(request, self._refusals.pop(0))
        words = request.url.path.removeprefix(API_PATH).strip("/").split("/")
        match request.method, *words:
            case "POST", "tasks":
                return self._once(request, self._submit)
            case "POST", "tasks", "bulk":
                return self._once(request, self._submit_many)
            case "GET", "tasks":
                return self._listed(request)
            case method, "tasks", task_id, *rest:
                return self._task(method, task_id, rest, request)
            case _:
                return self._platform(request.method, words, request)

    def _task(
        self, method: str, task_id: str, rest: list[str], request: httpx.Request
    ) -> httpx.Response:
        store = self._store
        match method, *rest:
            case ("GET",):
                return self._shown(request, store.look_at(task_id))
            case ("PATCH",):
                version = request.headers.get("If-Match")
                return json_answer(store.update(task_id, body_of(request), version).raw)
            case "POST", "cancel":
                return json_answer(store.cancel(task_id, body_of(request)).raw)
            case "POST", "retry":
                return self._once(request, lambda body: json_answer(store.retry(task_id, body).raw))
            case "POST", "rerun":
                return self._once(request, lambda body: json_answer(store.rerun(task_id, body)))
            case "GET", "stream":
                return self._streamed(request, store.look_at(task_id))
            case "GET", part if part in {"events", "logs", "attempts"}:
                return self._history(request, store.look_at(task_id), part)
        raise _nothing_here()

    def _platform(self, method: str, words: list[str], request: httpx.Request) -> httpx.Response:
        match method, *words:
            case "GET", "queues":
                names = sorted(
                    {one.raw["queue"] for one in self._store.tasks.values()} | {"default"}
                )
                return json_answer({"results": [self._queue(name) for name in names]})
            case "GET", "queues", name:
                return json_answer(self._queue(name))
            case "POST", "queues", name, "pause" | "resume" as verb:
                (self._store.paused.add if verb == "pause" else self._store.paused.discard)(name)
                reason = body_of(request).get("reason", "") if verb == "pause" else None
                return json_answer(self._queue(name) | {"pause_reason": reason})
            case "GET", "task-types":
                return json_answer(
                    {"results": [{"type": name} for name in sorted(self._store.outcomes)]}
                )
            case "GET", "task-types", name if name in self._store.outcomes:
                return json_answer({"type": name})
            case "GET", "workers" | "schedules":
                return json_answer({"results": [], "next": None, "previous": None})
            case "GET", "health":
                return json_answer({"status": "ok", "parts": {}})
        raise _nothing_here()

    def _queue(self, name: str) -> JsonObject:
        return {"name": name, "is_paused": name in self._store.paused}

    # Submissions

    def _once(
        self, request: httpx.Request, carry_out: Callable[[JsonObject], httpx.Response]
    ) -> httpx.Response:
        """Carry a request out once per Idempotency-Key."""
        key = (request.url.path, request.headers.get("Idempotency-Key", ""))
        earlier = self._replays.get(key) if key[1] else None
        if earlier is None:
            response = carry_out(body_of(request))
            self._replays[key] = (request.content, json.loads(response.content))
            return response
        if earlier[0] != request.content:
            raise Refused(
                422, "idempotency_mismatch", "This Idempotency-Key was used for another request."
            )
        return json_answer(earlier[1], 202, {"Idempotency-Replayed": "true"})

    def _submit(self, body: JsonObject) -> httpx.Response:
        return json_answer(self._store.make(body), 202, {"Retry-After": "1"})

    def _submit_many(self, body: JsonObject) -> httpx.Response:
        results = []
        for item in body["items"]:
            try:
                results.append({"status": 202, "id": self._store.make(item)["id"]})
            except Refused as error:
                why = error.refusal
                shown = {"code": why.code, "detail": why.detail, "errors": why.errors}
                results.append({"status": why.status, "id": None, **shown, "more_errors": 0})
        accepted = sum(one["status"] == 202 for one in results)  # noqa: PLR2004 - HTTP status
        counts = {"accepted": accepted, "rejected": len(results) - accepted}
        return json_answer(counts | {"results": results}, 202 if not counts["rejected"] else 207)

    # One task

    def _shown(self, request: httpx.Request, one: Stored) -> httpx.Response:
        etag = f'"{one.raw["version"]}"'
        if request.headers.get("If-None-Match") == etag:
            return httpx.Response(304, headers={"ETag": etag})
        return json_answer(one.raw, 200, {"ETag": etag})

    # Lists

    def _listed(self, request: httpx.Request) -> httpx.Response:
        query, filters = query_of(request), queries_of(request)
        rows = [one.raw for one in reversed(self._store.tasks.values()) if fits(one.raw, filters)]
        begin, limit = int(query.get("cursor", 0)), int(query.get("limit", 50))
        shown, end = rows[begin : begin + limit], begin + limit
        following = f"{URL}{request.url.path}?cursor={end}" if end < len(rows) else None
        return json_answer({"results": shown, "next": following, "previous": None})

    def _history(self, request: httpx.Request, one: Stored, part: str) -> httpx.Response:
        if part != "events":
            return json_answer({"results": [], "after": ""})
        query = query_of(request)
        after, limit = int(query.get("after", 0)), int(query.get("limit", 100))
        shown = one.events[after : after + limit]
        return json_answer({"results": shown, "after": shown[-1]["sequence"] if shown else after})

    def _streamed(self, request: httpx.Request, one: Stored) -> httpx.Response:
        """Give what there is now; the stream ends after it, as one that is cut does."""
        last = int(request.headers.get("Last-Event-ID", -1))
        if last == len(one.events) and one.events[-1]["type"] in FINAL_EVENTS:
            return httpx.Response(204)
        sent = one.events[last:] if last >= 0 else [snapshot(one)]
        text = "".join(
            f"id: {event['sequence']}\nevent: {event['type']}\ndata: {encode(event).decode()}\n\n"
            for event in sent
        )
        headers = {"Content-Type": "text/event-stream"}
        return httpx.Response(200, headers=headers, content=text.encode())


def _nothing_here() -> Refused:
    return Refused(404, "not_found", "The fake has nothing at this address.")
