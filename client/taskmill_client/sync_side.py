"""The blocking client: carries out the steps of flows with an `httpx.Client`."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from taskmill_client.binding import SyncSide
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


class Task(TaskMethods, SyncSide):
    """A task of a `Client`."""

    def __init__(self, raw: JsonObject, runner: SyncRunner) -> None:
        super().__init__(raw)
        self._runner = runner


class Tasks(TaskOperations, SyncSide):
    """`Client.tasks`."""

    def __init__(self, runner: SyncRunner) -> None:
        self._runner = runner


class Queues(QueueOperations, SyncSide):
    """`Client.queues`."""

    def __init__(self, runner: SyncRunner) -> None:
        self._runner = runner


class Schedules(ScheduleOperations, SyncSide):
    """`Client.schedules`."""

    def __init__(self, runner: SyncRunner) -> None:
        self._runner = runner


class TaskTypes(TaskTypeOperations, SyncSide):
    """`Client.task_types`."""

    def __init__(self, runner: SyncRunner) -> None:
        self._runner = runner


class Workers(WorkerOperations, SyncSide):
    """`Client.workers`."""

    def __init__(self, runner: SyncRunner) -> None:
        self._runner = runner


class DeadLetters(DeadLetterOperations, SyncSide):
    """`Client.dead_letters`."""

    def __init__(self, runner: SyncRunner) -> None:
        self._runner = runner


class Webhooks(WebhookOperations, SyncSide):
    """`Client.webhooks`."""

    def __init__(self, runner: SyncRunner) -> None:
        self._runner = runner


class Client(ClientOperations, SyncSide):
    """A client of one Taskmill server, safe to share between threads; close it, or use `with`.

    Args:
        url: the address of the site; None for that of `TASKMILL_URL`.
        token: an API key; None for that of `TASKMILL_TOKEN`.
        timeout: seconds to wait for a connection and for bytes of an answer.
        retries: how often a request that may be repeated is repeated.
        http: an `httpx.Client` to send with, for a proxy or certificates of your own; it is not
            closed with this client.

    Raises:
        ConfigurationError: there is no URL, or it is none.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        http: httpx.Client | None = None,
    ) -> None:
        found = configured(url, token, timeout_seconds=timeout, retries=retries)
        self._owns_http = http is None
        self._runner = SyncRunner(found, http or httpx.Client())
        self.tasks = Tasks(self._runner)
        self.queues = Queues(self._runner)
        self.schedules = Schedules(self._runner)
        self.task_types = TaskTypes(self._runner)
        self.workers = Workers(self._runner)
        self.dead_letters = DeadLetters(self._runner)
        self.webhooks = Webhooks(self._runner)

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._runner.exchange.configuration.url

    def close(self) -> None:
        """Close the connections."""
        if self._owns_http:
            self._runner.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class SyncRunner:
    """Carries flows out, each in the thread that asks."""

    def __init__(self, configuration: Configuration, http: httpx.Client) -> None:
        self.exchange = Exchange(configuration)
        self.http = http

    def task(self, raw: JsonObject) -> Task:
        """Give the task of a JSON object."""
        return Task(raw, self)

    def run(self, flow: Flow[T]) -> T:
        """Give the value of a flow."""
        steps = self._steps(flow)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            value: T = end.value
            return value

    def iterate(self, flow: Flow[None]) -> Generator[Any]:
        """Give what a flow emits; closing the generator closes its connection."""
        yield from self._steps(flow)

    def _steps(self, flow: Flow[T]) -> Generator[Any, None, T]:
        connection = _Connection(self)
        try:
            step = following(flow)
            while not isinstance(step, Done):
                if isinstance(step, Emit):
                    yield step.value
                step = connection.next_step(flow, step)
            value: T = step.value
            return value
        finally:
            flow.close()
            connection.close()


class _Connection:
    """What one flow has open."""

    def __init__(self, runner: SyncRunner) -> None:
        self._runner = runner
        self._stream: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def next_step(self, flow: Flow[Any], step: Step) -> Step | Done:
        """Carry a step out, and give the one that follows."""
        try:
            found = self._done(step)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            return following(flow, lost=lost_of(error))
        return following(flow, found)

    def _done(self, step: Step) -> Any:
        match step:
            case Send(call):
                return self._sent(call)
            case Open(call):
                return self._opened(call)
            case Read():
                return next(self._chunks, b"")
            case Pause(seconds):
                time.sleep(seconds)
        return None

    def _sent(self, call: Call) -> Answer:
        response = self._runner.http.send(self._request(call), follow_redirects=False)
        return answer_of(response)

    def _opened(self, call: Call) -> Answer:
        self.close()
        response = self._runner.http.send(self._request(call), stream=True, follow_redirects=False)
        self._stream = response
        if is_stream(response):
            self._chunks = response.iter_bytes()
        else:
            response.read()
        return answer_of(response)

    def _request(self, call: Call) -> httpx.Request:
        return httpx_request(self._runner.http, self._runner.exchange.configuration, call)
