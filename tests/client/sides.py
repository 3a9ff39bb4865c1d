"""Both clients, called alike, so that one test holds of either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taskmill_client import AsyncClient, Client


class Asynchronous:
    """An `AsyncClient` (or a part of it) called as a `Client` is; each call on one event loop."""

    def __init__(self, of: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._of = of
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if callable(found):
            return lambda *args, **kwargs: self._given(found(*args, **kwargs))
        return Asynchronous(found, self._loop) if name in PARTS else found

    def _given(self, value: Any) -> Any:
        if asyncio.iscoroutine(value):
            return self._wrapped(self._loop.run_until_complete(value))
        if isinstance(value, AsyncIterator):
            return self._iterated(value)
        return value

    def _iterated(self, values: Any) -> Iterator[Any]:
        try:
            while True:
                yield self._wrapped(self._loop.run_until_complete(anext(values)))
        except StopAsyncIteration:
            return
        finally:
            self._loop.run_until_complete(values.aclose())

    def _wrapped(self, value: Any) -> Any:
        return Asynchronous(value, self._loop) if hasattr(value, "refresh") else value


PARTS = (
    "tasks",
    "queues",
    "schedules",
    "task_types",
    "workers",
    "dead_letters",
    "webhooks",
)


@contextmanager
def side(name: str, make: Callable[[type], Any]) -> Iterator[Any]:
    """Give the client of a side, `sync` or `async`, for the duration."""
    if name == "sync":
        with make(Client) as made:
            yield made
        return
    loop = asyncio.new_event_loop()
    made = make(AsyncClient)
    yield Asynchronous(made, loop)
    loop.run_until_complete(made.close())
    loop.close()
