"""What live connections cost the work itself: a backlog drained with and without subscribers.

Every subscriber reads all events of the tenant as server-sent events. The rounds alternate, so that
a machine that grows busier weighs on both. The rate is by the rows: from the first start of a round
to its last end.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import dataclass

from bench.live_scene import Client, Scene
from bench.processes import run_command, wait_until

QUEUE = "bench-drain"
_WITHOUT_END = 10**12
_FILL = """
from tasks_app.models import Queue, Tenant
from tasks_app.platform import Caller
from tasks_app.services.queues import pause_queue
from tasks_app.transitions import NewTask, insert_tasks
from django.db import connection
tenant = Tenant.objects.get(slug="bench")
Queue.objects.get_or_create(name="{queue}")
pause_queue(caller=Caller(tenant_id=tenant.pk, actor="bench"), name="{queue}")
with connection.cursor() as cursor:
    insert_tasks(cursor, [NewTask(tenant_id=tenant.pk, type="demo.echo", queue="{queue}",
        payload={{}}, max_retry=0, process_timeout=60) for _ in range({tasks})])
"""
_RESUME = """
WITH resumed AS (
    UPDATE taskmill_queue SET is_paused = false, paused_by = '', paused_at = NULL
    WHERE name = %s RETURNING name)
SELECT pg_notify('taskmill_dispatch', name) FROM resumed
"""
_OPEN = "SELECT count(*) FROM taskmill_task WHERE queue = %s AND finished_at IS NULL"
_RATE = """
SELECT count(*) / extract(epoch FROM max(finished_at) - min(started_at))::float8
FROM taskmill_task WHERE queue = %s AND state = 'success'
"""
_EMPTY = "DELETE FROM taskmill_task WHERE queue = %s"


@dataclass(frozen=True)
class DrainSizes:
    """How much is drained: `rounds` with subscribers and as many without, in turn."""

    tasks: int = 2_000
    subscribers: int = 100
    rounds: int = 3


@dataclass(frozen=True)
class DrainFigures:
    """Tasks a second; medians of the rounds."""

    subscribers: int
    alone: float
    watched: float

    def __str__(self) -> str:
        """Give the figures as Markdown."""
        return (
            "| drained with subscribers of everything | tasks/s | ratio |\n| --- |"
            + " ---: |" * 2
            + f"\n| 0 | {self.alone:.0f} | |"
            f"\n| {self.subscribers} | {self.watched:.0f} | {self.watched / self.alone:.2f} |"
        )


def measure_drain(scene: Scene, sizes: DrainSizes) -> DrainFigures:
    """Drain backlogs with and without subscribers."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    scene.engine.stop()
    scene.process("engine", "manage.py", "engine")
    words = f"-m celery -A config worker -Q {QUEUE} --concurrency=2 --loglevel=WARNING"
    scene.process("worker", *words.split(), "--without-mingle", "--without-gossip")
    _drain(scene, min(sizes.tasks, 50))  # the worker comes up and its children connect
    for number in range(2 * sizes.rounds):
        is_watched = number % 2 == 1
        rates[is_watched].append(_drain(scene, sizes.tasks, sizes.subscribers * is_watched))
    return DrainFigures(
        subscribers=sizes.subscribers,
        alone=statistics.median(rates[False]),
        watched=statistics.median(rates[True]),
    )


def _drain(scene: Scene, tasks: int, subscribers: int = 0) -> float:
    fill = _FILL.format(queue=QUEUE, tasks=tasks)
    run_command(["manage.py", "shell", "--verbosity", "0", "-c", fill], env=scene.env)
    with ExitStack() as stack:
        stack.enter_context(scene.web())
        if subscribers:
            client = Client(scene, "all", subscribers, [_WITHOUT_END])
            stack.callback(client.stop)
            client.line()
        scene.connection.execute(_RESUME, [QUEUE])
        wait_until("the end of the backlog", lambda: _value(scene, _OPEN) == 0, seconds=300)
    rate = _value(scene, _RATE)
    scene.connection.execute(_EMPTY, [QUEUE])
    return rate


def _value(scene: Scene, statement: str) -> float:
    row = scene.connection.execute(statement, [QUEUE]).fetchone()
    return 0.0 if row is None else float(row[0])
