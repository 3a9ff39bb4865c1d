"""MQTT in tests: the loop's work under the test's hand, lives of tasks, what subscribers keep."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from notifications.mqtt.conf import MqttConf
from notifications.mqtt.sink import MqttSink, MqttWork
from tasks_app import leadership
from tasks_app.db import connect
from tasks_app.loops import Health, Round, Stop, Turn
from tasks_app.progress import save_progress
from tests.attempts import succeed_one
from tests.factories import claim, make_task, make_tenant
from tests.mosquitto import (
    Heard,
    Mosquitto,
)
from tests.relays import relay


class Publisher:
    """The loop's work under the test's hand."""

    def __init__(self, server: Mosquitto, holder: str = "first", **settings: Any) -> None:
        values = {"url": server.url(), "timeout_seconds": 2.0} | settings
        self.sink = MqttSink(MqttConf(**values))
        self.work = MqttWork(self.sink)
        self.connection = connect("mqtt")
        self.holder = holder
        self.turn: Turn | None = None

    def lead(self, *, lease_seconds: float = 60.0) -> None:
        held = leadership.hold(
            self.connection.cursor(), loop="mqtt", holder=self.holder, lease_seconds=lease_seconds
        )
        assert held is not None
        self.turn = Turn(
            connection=self.connection, leadership=held, stop=Stop(), health=Health(5.0)
        )

    def round(self) -> Round:
        if self.turn is None:
            self.lead()
        assert self.turn is not None
        return self.work.run_once(self.turn)

    def drain(self) -> None:
        """Put all events in order and publish them."""
        with relay() as one:
            one.drain()
        while self.round().wait_seconds == 0:
            pass

    def close(self) -> None:
        self.work.rest(None)
        self.connection.close()


@contextmanager
def publisher(server: Mosquitto, holder: str = "first", **settings: Any) -> Iterator[Publisher]:
    one = Publisher(server, holder, **settings)
    try:
        yield one
    finally:
        one.close()


def run_task(*, reports: int = 0, tenant: Any = None) -> uuid.UUID:
    """Bring a task through its life, with reports of progress."""
    task_id = make_task(tenant or make_tenant("default"), state="dispatched")
    epoch = claim(task_id)
    for number in range(reports):
        with connection.cursor() as cursor:
            save_progress(
                cursor, task_id, epoch=epoch, percent=number, message=f"at {number}", detail=None
            )
    finish(task_id, epoch)
    return task_id


def finish(task_id: uuid.UUID, epoch: int) -> None:
    with connection.cursor() as cursor:
        assert succeed_one(cursor, task_id, epoch=epoch)


def statuses(messages: Iterable[Heard]) -> list[str]:
    return [one.body["status"] for one in messages]


def on(start: str, messages: Iterable[Heard]) -> list[Heard]:
    return [one for one in messages if one.topic.startswith(start)]


def steps(messages: Iterable[Heard]) -> dict[str, list[int]]:
    """Give what a subscriber keeps per task: `seq` of each message not older than the last."""
    kept: defaultdict[str, list[int]] = defaultdict(list)
    newest: defaultdict[str, int] = defaultdict(int)
    for body in (one.body for one in messages):
        if body["sequence"] > newest[body["task_id"]]:
            newest[body["task_id"]] = body["sequence"]
            kept[body["task_id"]].append(body["seq"])
    return dict(kept)


def public_steps() -> dict[str, list[int]]:
    """Give the same from the database: all steps that are published on `task/status/{id}`."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT task_id::text, seq FROM taskmill_event WHERE type IN ('task.created',"
            " 'task.started', 'task.succeeded', 'task.failed') ORDER BY task_id, seq"
        )
        for task_id, seq in cursor.fetchall():
            found[task_id].append(seq)
    return dict(found)
