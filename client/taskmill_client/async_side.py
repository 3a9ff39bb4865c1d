"""The asynchronous client: carries out the steps of flows with an `httpx.AsyncClient`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from taskmill_client.binding import AsyncSide
from taskmill_client.configuration import Configuration, configured
from taskmill_client.dead_letters import DeadLetterOperations
from taskmill_client.exchange import Exchange
from taskmill_client.platform_parts import (
    ClientOperations,
    QueueOperations,
    ScheduleOperations,
    TaskTypeOperations,
    WorkerOperations,
)
from taskmill_client.receivers import WebhookOperations
from taskmill_client.requests import answer_of, httpx_request, is_stream, lost_of
from taskmill_client.task_methods import TaskMethods
from taskmill_client.tasks import TaskOperations
from taskmill_client.wire import (
    Answer,
    Call,
    Done,
    Emit,
    Flow,
    JsonObject,
    Open,
    Pause,
    Read,
    Send,
    Step,
    following,
)

T = TypeVar("T")


class AsyncTask(TaskMethods, AsyncSide):
    """A task of an `AsyncClient`."""

    def __init__(self, raw: JsonObject, runner: AsyncRunner) -> None:
        super().__init__(raw)
        self._runner = runner


class AsyncTasks(TaskOperations, AsyncSide):
    """`AsyncClient.tasks`."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner


class AsyncQueues(QueueOperations, AsyncSide):
    """`AsyncClient.queues`."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner


class AsyncSchedules(ScheduleOperations, AsyncSide):
    """`AsyncClient.schedules`."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner


class AsyncTaskTypes(TaskTypeOperations, AsyncSide):
    """`AsyncClient.task_types`."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner


class AsyncWorkers(WorkerOperations, AsyncSide):
    """`AsyncClient.workers`."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner


class AsyncDeadLetters(DeadLetterOperations, AsyncSide):
    """`AsyncClient.dead_letters`."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner


class AsyncWebhooks(WebhookOperations, AsyncSide):
    """`AsyncClient.webhooks`."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner


class AsyncClient(ClientOperations, AsyncSide):
    """`Client` for asyncio: the same names, awaited; what iterates is read with `async for`.

    Leaving such a loop early closes its connection when the generator is closed: at once with
    `contextlib.aclosing`, else when the event loop gets to it.

    Args:
        url, token, timeout, retries: as of `Client`.
        http: an `httpx.AsyncClient` to send with; it is not closed with this client.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        found = configured(url, token, timeout_seconds=timeout, retries=retries)
        self._owns_http = http is None
        self._runner = AsyncRunner(found, http or httpx.AsyncClient())
        self.tasks = AsyncTasks(self._runner)
        self.queues = AsyncQueues(self._runner)
        self.schedules = AsyncSchedules(self._runner)
        self.task_types = AsyncTaskTypes(self._runner)
        self.workers = AsyncWorkers(self._runner)
        self.dead_letters = AsyncDeadLetters(self._runner)
        self.webhooks = AsyncWebhooks(self._runner)

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._runner.exchange.configuration.url

    async def close(self) -> None:
        """Close the connections."""
        if self._owns_http:
            await self._runner.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class AsyncRunner:
    """Carries flows out, each in the task that asks."""

    def __init__(self, configuration: Configuration, http: httpx.AsyncClient) -> None:
        self.exchange = Exchange(configuration)
        self.http = http

    def task(self, raw: JsonObject) -> AsyncTask:
        """Give the task of a JSON object."""
        return AsyncTask(raw, self)

    async def run(self, flow: Flow[T]) -> T:
        """Give the value of a flow."""
        connection = _Connection(self)
        try:
            step = following(flow)
            while not isinstance(step, Done):
                step = await connection.next_step(flow, step)
            value: T = step.value
            return value
        finally:
            flow.close()
            await connection.close()

    async def iterate(self, flow: Flow[None]) -> AsyncGenerator[Any]:
        """Give what a flow emits; closing the generator closes its connection."""
        connection = _Connection(self)
        try:
            step = following(flow)
            while not isinstance(step, Done):
                if isinstance(step, Emit):
                    yield step.value
                step = await connection.next_step(flow, step)
        finally:
            flow.close()
            await connection.close()


class _Connection:
    """What one flow has open."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner
        self._stream: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def close(self) -> None:
        stream, self._stream, self._chunks = self._stream, None, None
        if stream is not None:
            await stream.aclose()

    async def next_step(self, flow: Flow[Any], step: Step) -> Step | Done:
        """Carry a step out, and give the one that follows."""
        try:
            found = await self._done(step)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            return following(flow, lost=lost_of(error))
        return following(flow, found)

    async def _done(self, step: Step) -> Any:
        match step:
            case Send(call):
                return await self._sent(call)
            case Open(call):
                return await self._opened(call)
            case Read():
                return b"" if self._chunks is None else await anext(self._chunks, b"")
            case Pause(seconds):
                await asyncio.sleep(seconds)
        return None

    async def _sent(self, call: Call) -> Answer:
        response = await self._runner.http.send(self._request(call), follow_redirects=False)
        return answer_of(response)

    async def _opened(self, call: Call) -> Answer:
        await self.close()
        request = self._request(call)
        response = await self._runner.http.send(request, stream=True, follow_redirects=False)
        self._stream = response
        if is_stream(response):
            self._chunks = response.aiter_bytes()
        else:
            await response.aread()
        return answer_of(response)

    def _request(self, call: Call) -> httpx.Request:
        return httpx_request(self._runner.http, self._runner.exchange.configuration, call)
