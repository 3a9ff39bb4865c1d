"""The worker's sink to the database keeps the promises of every sink."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.context import AttemptInfo, LogLine, Progress, TaskContext
from tasks_app.errors import LeaseLost
from tasks_app.execution.connection import Connection
from tasks_app.execution.interrupts import Interrupts
from tasks_app.execution.logbuffer import LogBuffer
from tasks_app.execution.sink import AttemptSink
from tasks_app.execution.slots import SlotTable
from tasks_app.models import Task
from tasks_app.models.history import LogChunk
from tests.attempts import claim_one, interrupt_one
from tests.factories import make_task, make_tenant, task_column
from tests.sink_contract import SinkContract


class InDatabase:
    """One task whose attempts report through `AttemptSink`; looks at what the rows say."""

    def __init__(self) -> None:
        self._connection = Connection("test")
        self._table = SlotTable(1)
        self._task_id = make_task(make_tenant("default"), state="dispatched")
        self._start()

    def _start(self) -> None:
        hint = (self._task_id, task_column(self._task_id, "dispatch_seq"))
        with connection.cursor() as cursor:
            claim = claim_one(cursor, hint)
        assert claim is not None
        self._claim = claim
        self._run = self._table.publish(
            0, os.getpid(), (claim.id, claim.epoch, monotonic(), monotonic() + 600)
        )
        self._sink = AttemptSink(
            claim,
            self._connection,
            queue.SimpleQueue(),
            lines=LogBuffer(claim.run_deadline, monotonic(), max_bytes=1_000_000),
            interrupts=Interrupts(self._table, 0),
            is_cancelled=lambda: self._table.is_cancelled(0, self._run),
            ends_at=monotonic() + 600,
            extended=lambda until: self._table.extend(0, self._run, until),
        )

    def sink(self) -> AttemptSink:
        return self._sink

    def next_attempt(self) -> AttemptSink:
        with connection.cursor() as cursor:
            assert interrupt_one(cursor, self._task_id, epoch=self._claim.epoch)
            transitions.dispatch(cursor, queue="default", room=1)
        self._start()
        return self._sink

    def request_cancel(self) -> None:
        running = self._table.read(0)
        assert running is not None
        self._table.order_cancel(running)

    def last_progress(self) -> Progress:
        self._sink.close()
        row = Task.objects.get(id=self._task_id)
        return Progress(
            percent=row.progress, message=row.progress_message, detail=row.progress_detail or {}
        )

    def log_lines(self) -> list[LogLine]:
        self._sink.close()
        chunks = LogChunk.objects.filter(task_id=self._task_id).order_by("epoch", "number")
        return [
            LogLine(level=line["level"], message=line["message"], fields=line["fields"])
            for chunk in chunks
            for line in chunk.lines
        ]

    def info(self) -> AttemptInfo:
        return AttemptInfo(
            task_id=self._task_id,
            epoch=self._claim.epoch,
            type="tests.echo",
            queue="default",
            tenant="default",
        )

    def deadline_of_worker(self) -> float:
        running = self._table.read(0)
        assert running is not None
        return running.deadline

    def close(self) -> None:
        self._connection.close()


@pytest.mark.django_db(transaction=True)
class TestDatabaseSink(SinkContract):
    """The contract, run on `AttemptSink`."""

    @pytest.fixture
    def harness(self, transactional_db: Any) -> Iterator[InDatabase]:
        found = InDatabase()
        yield found
        found.close()

    @pytest.mark.parametrize(
        "write",
        [
            lambda old: old.checkpoint({"row": 9}),
            lambda old: old.extend_timeout(5000),
            lambda old: old.once("charge", lambda: 9),
        ],
        ids=["checkpoint", "extend_timeout", "once"],
    )
    def test_an_attempt_that_lost_its_task_stores_nothing(
        self, harness: InDatabase, write: Callable[[TaskContext], object]
    ) -> None:
        old = TaskContext(harness.info(), harness.sink())
        old.checkpoint({"row": 1})
        new = TaskContext(harness.info(), harness.next_attempt())
        deadline = task_column(harness.info().task_id, "run_deadline")
        with pytest.raises(LeaseLost):
            write(old)
        assert new.resume == {"row": 1}
        assert new.once("charge", lambda: 5) == 5
        assert task_column(harness.info().task_id, "run_deadline") == deadline
