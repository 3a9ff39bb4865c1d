"""Ties the lease keeper to a Celery worker's life.

A bootstep around the pool, and the signals of start and shutdown.

The slot table is made when the step is created, before the pool forks; its threads start once the
pool runs. On a warm shutdown the consumer is already silent when this step stops: running attempts
get their grace, the rest is killed and handed back, and only then the pool is joined.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from functools import partial
from signal import SIGKILL
from typing import Any, Final

import psutil
from celery import bootsteps, signals
from django.conf import settings

from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.db import process_name
from tasks_app.execution import kill
from tasks_app.execution.child import start_child
from tasks_app.execution.guard import TICK_SECONDS, Guard
from tasks_app.execution.keeper import LeaseKeeper, Vitals
from tasks_app.execution.orders import orders
from tasks_app.execution.request import hand_back_waiting
from tasks_app.execution.slots import SlotTable
from tasks_app.garbage import spare_what_stays
from tasks_app.hints import read_hints
from tasks_app.telemetry import logger

LEAST_SLOTS: Final = 64
LAST_WRITES_SECONDS: Final = 5.0

log = logger(__name__)


class LeaseStep(bootsteps.StartStopStep):
    """Starts and stops the keeper of a prefork worker."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.keeper: LeaseKeeper | None = None
        self.guard: Guard | None = None
        self._is_ready = False

    def include_if(self, worker: Any) -> bool:
        """Say whether this worker can run platform tasks.

        Children that can be killed are needed.
        """
        return "prefork" in getattr(worker.pool_cls, "__module__", "")

    def create(self, worker: Any) -> LeaseStep:  # type: ignore[override]  # celery takes what it gives
        """Make the slot table and the hooks for the children, before the pool forks."""
        self.owner = f"{process_name()}:{uuid.uuid4().hex[:12]}"
        self.table = SlotTable(max(LEAST_SLOTS, 2 * (worker.max_concurrency or worker.concurrency)))
        self._on_child = partial(start_child, self.table, owner=self.owner, worker=process_name())
        signals.worker_process_init.connect(self._on_child, weak=False)
        signals.worker_ready.connect(self._on_ready)
        signals.worker_shutting_down.connect(self._on_shutting_down)
        signals.task_unknown.connect(self._on_unknown)
        kill.become_subreaper()
        spare_what_stays()
        return self

    def start(self, worker: Any) -> None:
        """Start the threads."""
        self.guard = Guard(
            self.table,
            terminate=lambda pid: worker.pool.terminate_job(pid, SIGKILL),
            pool_pids=lambda: _pool_pids(worker),
            tell=orders().bell.ring,
        )
        self.keeper = LeaseKeeper(
            self.guard,
            owner=self.owner,
            worker=process_name(),
            vitals=lambda: _vitals(worker) if self._is_ready else None,
            serve=partial(self._serve, worker),
        )
        self.guard.start()
        self.keeper.start()

    def stop(self, _worker: Any) -> None:
        """Let running attempts end within the grace, hand the rest back.

        Remove the worker's row.
        """
        if self.guard is None or self.keeper is None:
            return
        self._on_shutting_down()
        hand_back_waiting()
        end = monotonic() + conf().shutdown_grace_seconds + conf().kill_grace_seconds + 10.0
        while self.guard.held() and monotonic() < end:
            self.guard.join(TICK_SECONDS)
        self._finish(self.guard, self.keeper)

    def terminate(self, worker: Any) -> None:
        """Hand everything back at once (a cold shutdown)."""
        if self.guard is not None:
            self.guard.interrupt_all(after_seconds=0.0)
        self.stop(worker)

    def _finish(self, guard: Guard, keeper: LeaseKeeper) -> None:
        guard.finish()
        keeper.finish(seconds=LAST_WRITES_SECONDS)
        self.guard = self.keeper = None

    def _on_ready(self, **_: Any) -> None:
        self._is_ready = True
        if self.keeper is not None:
            self.keeper.renew_soon()

    def _serve(self, worker: Any, names: Sequence[str]) -> None:
        """Have a worker that was not told its queues (`-Q`) take those that are new to it.

        Called by the keeper's thread; what touches Celery's consumer runs in its own loop.
        """
        queues = worker.app.amqp.queues
        if queues._consume_from is None and not self.table.is_stopping:  # noqa: SLF001 - no accessor tells `-Q`
            for name in names:
                if name not in queues.consume_from:
                    worker.consumer.call_soon(self._consume, worker, name)

    def _consume(self, worker: Any, name: str) -> None:
        """Take a queue, in the consumer's loop; where that is connecting, it takes all known."""
        worker.app.amqp.queues.add(settings.BROKER_QUEUE(name))
        if worker.consumer.task_consumer is not None:
            worker.consumer.add_task_queue(name)
        if self.keeper is not None:
            self.keeper.renew_soon()

    def _on_shutting_down(self, **_: Any) -> None:
        if self.table.is_stopping or self.guard is None or self.keeper is None:
            return
        self.table.stop()
        self.guard.interrupt_all(after_seconds=conf().shutdown_grace_seconds)
        self.keeper.stop_taking()

    def _on_unknown(self, message: Any = None, name: str = "", id: str = "", **_: Any) -> None:  # noqa: A002 - the signal's names
        for task_id, dispatch_seq in read_hints(id, _hint_arguments(message)):
            orders().hand_back(task_id, dispatch_seq, name)


def _hint_arguments(message: Any) -> list[Any]:
    try:
        return list(message.payload[0])
    except (TypeError, ValueError, KeyError, IndexError):
        return []


def _pool_pids(worker: Any) -> list[int]:
    pool = worker.pool
    processes = [] if pool is None or pool._pool is None else list(pool._pool._pool)  # noqa: SLF001 - billiard offers no list
    return [process.pid for process in processes if process.pid]


def _vitals(worker: Any) -> Vitals:
    memory = 0
    for pid in (os.getpid(), *_pool_pids(worker)):
        try:
            memory += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    queues = tuple(sorted(worker.app.amqp.queues.consume_from))
    return Vitals(queues=queues, slots=worker.pool.num_processes, memory_bytes=memory)
