"""Writers: connections that drive tasks by the real transitions, many at a time.

Ids of events are drawn in one order and commit in another: transactions overlap, some stay open for
a while, some are rolled back.
"""

from __future__ import annotations

import random
import threading
import uuid
from contextlib import suppress
from typing import Any

import orjson
from psycopg import Rollback

from tasks_app import transitions
from tasks_app.db import connect
from tasks_app.progress import save_progress
from tests.attempts import claim_one, succeed_one
from tests.factories import ERROR

GROUPS = 8
PAUSES = (0.0, 0.0, 0.002, 0.01, 0.03, 0.1)
_ERROR = orjson.dumps(ERROR).decode()


def new_task(cursor: Any, tenant_id: int, *, queue: str, group: int) -> uuid.UUID:
    """Submit a task of a group."""
    task = transitions.NewTask(
        tenant_id=tenant_id,
        type="tests.echo",
        queue=queue,
        payload={},
        max_retry=0,
        process_timeout=600,
        tags=[f"group-{group % GROUPS}"],
    )
    assert transitions.insert_tasks(cursor, [task])
    return task.id


class Writer(threading.Thread):
    """Submits tasks into a queue of its own and runs them, until it is told to end them all.

    Args:
        pace: seconds between two rounds, of about ten events.
    """

    def __init__(self, number: int, tenant_id: int, *, pace: float) -> None:
        super().__init__(daemon=True)
        self.queue = f"crowd-{number}"
        self.fault: BaseException | None = None
        self._chance = random.Random(number)
        self._tenant_id = tenant_id
        self._pace = pace
        self._end = threading.Event()
        self._running: dict[uuid.UUID, tuple[int, float]] = {}

    def finish(self) -> None:
        """Submit nothing more, and end what runs."""
        self._end.set()

    def run(self) -> None:
        """Work until everything submitted has ended."""
        try:
            with connect("crowd") as own:
                cursor = own.cursor()
                while not self._end.wait(self._pace):
                    self._submit(own, cursor)
                    self._begin(cursor)
                    self._go_on(own, cursor, hurry=False)
                while self._begin(cursor) or self._running:
                    self._go_on(own, cursor, hurry=True)
        except BaseException as fault:  # noqa: BLE001 - shown by the test
            self.fault = fault

    def _pause(self, cursor: Any) -> None:
        cursor.execute("SELECT pg_sleep(%s)", [self._chance.choice(PAUSES)])

    def _submit(self, own: Any, cursor: Any) -> None:
        with suppress(Rollback), own.transaction():
            for _ in range(self._chance.randint(0, 2)):
                group = self._chance.randrange(GROUPS)
                new_task(cursor, self._tenant_id, queue=self.queue, group=group)
                self._pause(cursor)
            if self._chance.random() < 0.1:
                raise Rollback

    def _begin(self, cursor: Any) -> int:
        tasks, _ = transitions.dispatch(cursor, queue=self.queue, room=3)
        for task in tasks:
            claim = claim_one(cursor, (task.id, task.dispatch_seq), owner=self.queue)
            assert claim is not None
            self._running[task.id] = (claim.epoch, 0.0)
        return len(tasks)

    def _go_on(self, own: Any, cursor: Any, *, hurry: bool) -> None:
        """Move some tasks on in one transaction, which stays open meanwhile."""
        chosen = self._chance.sample(sorted(self._running), min(4, len(self._running)))
        with own.transaction():
            for task_id in chosen:
                epoch, percent = self._running[task_id]
                if percent >= 90 or hurry:
                    self._end_task(cursor, task_id, epoch)
                    continue
                percent += self._chance.choice((10.0, 20.0, 40.0))
                percent = min(percent, 95.0)
                assert save_progress(
                    cursor, task_id, epoch=epoch, percent=percent, message="", detail=None
                ) is not None  # fmt: skip
                self._running[task_id] = (epoch, percent)
                self._pause(cursor)

    def _end_task(self, cursor: Any, task_id: uuid.UUID, epoch: int) -> None:
        del self._running[task_id]
        if self._chance.random() < 0.8:
            assert succeed_one(cursor, task_id, epoch=epoch)
        else:
            assert transitions.fail(cursor, task_id, epoch=epoch, state="failed", error=_ERROR)
