"""One method, two clients: what a flow becomes on the blocking and on the asynchronous side.

A method is written once, as a flow. Read from an object of the blocking side it gives its value,
from one of the asynchronous side an awaitable (or an asynchronous iterator) of it; the overloads
tell type checkers the same.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from taskmill_client.wire import Flow

if TYPE_CHECKING:
    from taskmill_client.async_side import AsyncRunner, AsyncTask
    from taskmill_client.exchange import Exchange
    from taskmill_client.fields import TaskFields
    from taskmill_client.sync_side import SyncRunner, Task

P = ParamSpec("P")
T = TypeVar("T")


class Runner(Protocol):
    """Carries the steps of flows out."""

    exchange: Exchange

    def run(self, flow: Flow[Any]) -> Any:
        """Give the value of a flow, or an awaitable of it."""

    def iterate(self, flow: Flow[None]) -> Any:
        """Give what a flow emits."""

    def task(self, raw: dict[str, Any]) -> TaskFields:
        """Give the task of a JSON object."""


class Bound:
    """Something with methods that ask the server."""

    _runner: Runner

    @property
    def _exchange(self) -> Exchange:
        return self._runner.exchange


class SyncSide(Bound):
    """Its methods block."""

    _runner: SyncRunner


class AsyncSide(Bound):
    """Its methods are awaited."""

    _runner: AsyncRunner


class _Method(Generic[P, T]):
    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self._flow = flow
        functools.update_wrapper(self, flow)  # type: ignore[arg-type]  # for help() and editors

    def _bound(self, owner: Bound, carry_out: Callable[[Flow[Any]], Any]) -> Callable[P, Any]:
        @functools.wraps(self._flow)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return carry_out(self._flow(owner, *args, **kwargs))

        return method


class operation(_Method[P, T]):  # noqa: N801 - a decorator
    """A method that gives one value."""

    @overload
    def __get__(self, owner: SyncSide, kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: AsyncSide, kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, owner: None, kind: type) -> operation[P, T]: ...
    def __get__(self, owner: Bound | None, kind: type) -> Any:
        """Give the method of the owner's side."""
        return self if owner is None else self._bound(owner, owner._runner.run)  # noqa: SLF001


class task_operation(_Method[P, "TaskFields"]):  # noqa: N801 - a decorator
    """A method that gives a task."""

    @overload
    def __get__(self, owner: SyncSide, kind: type) -> Callable[P, Task]: ...
    @overload
    def __get__(
        self, owner: AsyncSide, kind: type
    ) -> Callable[P, Coroutine[Any, Any, AsyncTask]]: ...
    @overload
    def __get__(self, owner: None, kind: type) -> task_operation[P]: ...
    def __get__(self, owner: Bound | None, kind: type) -> Any:
        """Give the method of the owner's side."""
        return self if owner is None else self._bound(owner, owner._runner.run)  # noqa: SLF001


class Iteration(_Method[P, None], Generic[P, T]):
    """A method that gives many values, one by one."""

    @overload
    def __get__(self, owner: SyncSide, kind: type) -> Callable[P, Generator[T]]: ...
    @overload
    def __get__(self, owner: AsyncSide, kind: type) -> Callable[P, AsyncGenerator[T]]: ...
    @overload
    def __get__(self, owner: None, kind: type) -> Iteration[P, T]: ...
    def __get__(self, owner: Bound | None, kind: type) -> Any:
        """Give the method of the owner's side."""
        return self if owner is None else self._bound(owner, owner._runner.iterate)  # noqa: SLF001


def iteration(
    kind: type[T],  # noqa: ARG001 - for type checkers
) -> Callable[[Callable[Concatenate[Any, P], Flow[None]]], Iteration[P, T]]:
    """Make such a method of a flow that emits values of a kind."""
    return Iteration


class task_iteration(_Method[P, None]):  # noqa: N801 - a decorator
    """A method that gives many tasks, one by one."""

    @overload
    def __get__(self, owner: SyncSide, kind: type) -> Callable[P, Generator[Task]]: ...
    @overload
    def __get__(self, owner: AsyncSide, kind: type) -> Callable[P, AsyncGenerator[AsyncTask]]: ...
    @overload
    def __get__(self, owner: None, kind: type) -> task_iteration[P]: ...
    def __get__(self, owner: Bound | None, kind: type) -> Any:
        """Give the method of the owner's side."""
        return self if owner is None else self._bound(owner, owner._runner.iterate)  # noqa: SLF001
