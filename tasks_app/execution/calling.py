"""Calls a handler.

Sync ones in the child's main thread, async ones on one event loop kept for the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tasks_app.execution.interrupts import Interrupts, as_exception
from tasks_app.registry import Handler


class Caller:
    """Calls handlers under interrupts; one per pool child."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._runner: asyncio.Runner | None = None

    def call(self, handler: Handler, arguments: list[Any], *, run: int) -> Any:
        """Call a handler as run number `run`; gives what it returns.

        Raises:
            TaskCancelled: it was interrupted because of a cancel.
            ProcessTimeout: it was interrupted at its process timeout.
            BaseException: whatever it raises.
        """
        try:
            self._interrupts.arm(run, handler.timeout_error)
            if handler.is_async:
                return self._call_async(handler.function, arguments)
            return handler.function(*arguments)
        finally:
            self._interrupts.disarm()

    def _call_async(self, function: Callable[..., Awaitable[Any]], arguments: list[Any]) -> Any:
        with self._interrupts.shielded():
            if self._runner is None:
                self._runner = asyncio.Runner()
            try:
                return self._runner.run(self._supervised(function, arguments))
            except asyncio.CancelledError as error:
                kind = self._interrupts.delivered
                if kind is None:
                    raise
                raise as_exception(kind, self._interrupts.timeout_error) from error

    async def _supervised(
        self, function: Callable[..., Awaitable[Any]], arguments: list[Any]
    ) -> Any:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has a task

        def cancel() -> None:
            loop.call_soon_threadsafe(task.cancel)

        with self._interrupts.through_loop(cancel):
            try:
                return await function(*arguments)
            finally:
                await _end_leftovers(task)


async def _end_leftovers(own: asyncio.Task[Any]) -> None:
    """Cancel the tasks that a handler left on the loop.

    So that they do not run into the next attempt.
    """
    left = [task for task in asyncio.all_tasks() if task is not own]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=1.0)
