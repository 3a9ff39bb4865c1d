"""A pool child: what is kept from one attempt to the next, set up once after the fork.

One database connection, one slot of the shared table, one flusher thread, one event loop. Nothing
of the main process's connections is used or closed.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Final

import billiard
import billiard.pool

from tasks_app import transitions
from tasks_app.conf import conf
from tasks_app.db import process_name
from tasks_app.execution import kill
from tasks_app.execution.bundle import hand_back
from tasks_app.execution.calling import Caller
from tasks_app.execution.connection import BROKEN, Connection
from tasks_app.execution.interrupts import Interrupts
from tasks_app.execution.sink import Flusher, LogCapture
from tasks_app.execution.slots import Running, SlotTable
from tasks_app.telemetry import logger

LAST_MESSAGES_TRIES: Final = 10
"""Tenths of a second that an ending child waits for the main process to read what it sent.

billiard's own are 300, and a worker that stops does not always read the last of it: it then took 30
s to end. What a task came to is in its row, whoever reads the message.
"""

log = logger(__name__)


class Child:
    """The state of this pool child.

    Args:
        table: the worker's slot table.
        owner: the worker's id, under which its keeper renews leases.
        worker: the worker's name for people.
    """

    def __init__(self, table: SlotTable, index: int, *, owner: str, worker: str) -> None:
        self.table = table
        self.index = index
        self.pid = os.getpid()
        self.owner = owner
        self.worker = worker
        self.settings = conf()
        self.connection = Connection("worker")
        self.interrupts = Interrupts(table, index)
        self.caller = Caller(self.interrupts)
        self.capture = LogCapture()
        self.flusher = Flusher()

    def start(self) -> None:
        """Take the slot over, and report the attempts that its last child died with."""
        kill.become_subreaper()
        billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = LAST_MESSAGES_TRIES
        before, members = self.table.read(self.index), self.table.members(self.index)
        self.table.clear(self.index, self.pid)
        self.table.publish_members(self.index, [])
        self.interrupts.install()
        self.flusher.start()
        logging.getLogger().addHandler(self.capture)
        if before is not None and not self.table.is_taken(before):
            self._report_lost(before)
        running = None if before is None else (before.task_id, before.epoch)
        if rest := [member for member in members if member != running]:
            hand_back(self, rest, reason="worker_lost")

    def _report_lost(self, before: Running) -> None:
        try:
            is_lost = self.connection.run(
                lambda cursor: transitions.lose(
                    cursor, before.task_id, epoch=before.epoch, max_rescues=conf().max_rescues
                )
            )
        except BROKEN:
            return
        if is_lost:
            log.warning("pool child died", task_id=str(before.task_id), child_pid=before.pid)


_children: dict[int, Child] = {}


def current_child() -> Child | None:
    """Give the state of this process, None where it is no pool child of a Taskmill worker."""
    return _children.get(os.getpid())


def start_child(table: SlotTable, *, owner: str, worker: str | None = None, **_: Any) -> Child:
    """Set this pool child up."""
    index = int(getattr(billiard.current_process(), "index", 0))
    child = Child(table, index, owner=owner, worker=worker or process_name())
    child.start()
    _children.clear()
    _children[child.pid] = child
    return child
