"""Interrupts a handler in its pool child: the main process orders, SIGUSR2 delivers, Python raises.

A signal may come at any instruction, so raising is allowed only while user code runs (`armed`),
never inside a shield (`shielded`, around statements and locks of ours), and once per run. An async
handler is cancelled through its loop instead.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasks_app.errors import ProcessTimeout, TaskCancelled
from tasks_app.execution.slots import Interrupt, SlotTable


def as_exception(kind: Interrupt, timeout_error: type[ProcessTimeout]) -> BaseException:
    """Give what a handler sees of an interrupt."""
    if kind is Interrupt.CANCEL:
        return TaskCancelled("the task was asked to stop")
    return timeout_error("the process timeout is over")


class Interrupts:
    """The interrupt state of one pool child.

    Everything but the signal itself happens in its main thread.
    """

    def __init__(self, table: SlotTable, index: int) -> None:
        self._table = table
        self._index = index
        self._armed_run = 0
        self._depth = 0
        self._pending: Interrupt | None = None
        self._cancel_async: Callable[[], None] | None = None
        self._main_thread = threading.get_ident()
        self.delivered: Interrupt | None = None
        self.timeout_error: type[ProcessTimeout] = ProcessTimeout

    def install(self) -> None:
        """Listen for the main process."""
        signal.signal(signal.SIGUSR2, self._on_signal)

    def arm(self, run: int, timeout_error: type[ProcessTimeout] = ProcessTimeout) -> None:
        """Allow one interrupt of this run from here on."""
        self.delivered = self._pending = None
        self.timeout_error = timeout_error
        self._armed_run = run
        self._take_order()

    def disarm(self) -> None:
        """Allow none from here on."""
        self._armed_run = 0

    @contextmanager
    def through_loop(self, cancel: Callable[[], None]) -> Iterator[None]:
        """Deliver by `cancel` (thread-safe) instead of raising.

        Also what a shield around this held back.
        """
        self._cancel_async = cancel
        if self._pending is not None:
            self._pending = None
            cancel()
        try:
            yield
        finally:
            self._cancel_async = None

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold interrupts back for the duration; they are raised at its end.

        A no-op in other threads.
        """
        if threading.get_ident() != self._main_thread:
            yield
            return
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self._pending is not None and self._depth == 0:
            kind, self._pending = self._pending, None
            raise as_exception(kind, self.timeout_error)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._take_order()

    def _take_order(self) -> None:
        run = self._armed_run
        if run == 0 or self.delivered is not None:
            return
        kind = self._table.interrupt_for(self._index, run)
        if kind is None:
            return
        self.delivered = kind
        if self._cancel_async is not None:
            self._cancel_async()
        elif self._depth:
            self._pending = kind
        else:
            raise as_exception(kind, self.timeout_error)
