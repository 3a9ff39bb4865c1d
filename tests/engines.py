"""The engine in tests: a dispatcher under the test's hand, loops in threads, processes, hints."""

from __future__ import annotations

import itertools
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import Empty
from typing import Any

import kombu
from django.conf import settings
from kombu.simple import SimpleQueue

from tasks_app import leadership
from tasks_app.conf import TasksConf, conf
from tasks_app.db import connect
from tasks_app.dispatch.loop import DispatchWork
from tasks_app.dispatch.publish import Publisher, make_publisher
from tasks_app.leadership import Leadership
from tasks_app.loops import Health, Loop, Round, Stop, Turn, Work
from tests.processes import Process, process_environment

_numbers = itertools.count(1)


def new_queue() -> str:
    """Give a queue name that no other test uses."""
    return f"queue-{next(_numbers)}-{uuid.uuid4().hex[:6]}"


@dataclass(frozen=True)
class Hint:
    """A hint as a consumer sees it."""

    task_id: str
    dispatch_seq: int
    type: str
    headers: dict[str, Any]


def read_hints(queue: str, *, url: str = "", wait: float = 0.2, limit: int = 100_000) -> list[Hint]:
    """Consume what is in a broker queue until nothing comes for `wait` seconds."""
    found = []
    with kombu.Connection(url or settings.BROKER_URL) as broker, broker.channel() as channel:
        source = settings.BROKER_QUEUE(queue) if not url else broker_queue(url, queue)
        simple = SimpleQueue(channel, source, no_ack=True)
        while len(found) < limit:
            try:
                message = simple.get(timeout=wait)
            except Empty:
                break
            args, kwargs, embed = message.payload
            assert kwargs == {}
            assert set(embed) == {"callbacks", "errbacks", "chain", "chord"}
            headers = message.headers
            for task_id, seq in [(headers["id"], args[0]), *(args[1] if len(args) > 1 else [])]:
                found.append(Hint(task_id, seq, headers["task"], headers))
    return found


def broker_queue(url: str, name: str) -> kombu.Queue:
    """Give the queue as `config.settings.celery_queue` makes it for the broker at `url`."""
    arguments = {"x-queue-type": "quorum"} if url.startswith("amqp") else None
    exchange = kombu.Exchange("taskmill", "topic")
    return kombu.Queue(name, exchange, routing_key=name, queue_arguments=arguments)


class Dispatcher:
    """A dispatch work with its own connection, run round by round."""

    def __init__(self, publisher: Publisher | None = None, **settings_: Any) -> None:
        self.connection = connect("dispatch")
        self.publisher = publisher or make_publisher()
        self.work = DispatchWork(self.publisher, replace(conf(), **settings_))
        self.holder = uuid.uuid4().hex
        self.stop = Stop()
        self.lead: Leadership | None = None
        self.is_rung = False

    def take(self, *, lease_seconds: float = 60.0) -> bool:
        """Try to take the leadership."""
        self.lead = leadership.hold(
            self.connection.cursor(),
            loop="dispatch",
            holder=self.holder,
            lease_seconds=lease_seconds,
        )
        return self.lead is not None

    def round(self) -> Round:
        """Run one round with the leadership last taken."""
        if self.lead is None:
            assert self.take()
        assert self.lead is not None
        turn = Turn(
            connection=self.connection,
            leadership=self.lead,
            stop=self.stop,
            health=Health(5.0),
            is_rung=self.is_rung,
        )
        return self.work.run_once(turn)

    def close(self) -> None:
        """Free what it holds."""
        self.work.rest(None)
        self.connection.close()
        self.stop.close()


@contextmanager
def dispatcher(publisher: Publisher | None = None, **settings_: Any) -> Iterator[Dispatcher]:
    """A dispatcher for the duration."""
    one = Dispatcher(publisher, **settings_)
    try:
        yield one
    finally:
        one.close()


@contextmanager
def running_loop(work: Work, settings_: TasksConf) -> Iterator[Loop]:
    """A loop in a thread for the duration."""
    stop = Stop()
    loop = Loop(
        work,
        stop=stop,
        lease_seconds=settings_.leader_lease_seconds,
        health_gap_seconds=settings_.lease_seconds / 2,
    )
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
        stop.close()


def start_engine(*arguments: str, **variables: str) -> Process:
    """Start `manage.py engine`."""
    command = [sys.executable, "manage.py", "engine", *arguments]
    return Process(command, name="engine", environment=process_environment(**variables))
