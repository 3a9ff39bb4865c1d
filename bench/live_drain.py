"""What live connections cost the work itself: a backlog drained with and without subscribers.

Server-sent events, in one kind of round of one task each, as a progress bar has them, in another
of everything that happens, each event sent to every subscriber. The rounds take turns, so that a
machine that grows busier weighs on all. The rate is by the rows: from the first start of a round to
its last end. On a machine that others use, rates swing. Beside them therefore stands the share of
the web process in the processor time that the round took in all processes of the platform, which
swings less: where the processors are the limit, a share of a tenth leaves nine tenths of the rate.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.live_scene import Client, Scene
from bench.processes import cpu_seconds, run_command, wait_until

QUEUE = "bench-drain"
_WITHOUT_END = 10**12
KINDS = {"": "nobody", "sse": "one task each", "all": "everything"}
"""What the subscribers of a round watch, by the kind of `live_client`."""
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
    """How much is drained: `rounds` of each kind, in turn."""

    tasks: int = 2_000
    subscribers: int = 100
    rounds: int = 3


@dataclass(frozen=True)
class DrainFigures:
    """Tasks a second by what is watched, and the web process's share of the processor time;
    medians of the rounds.
    """

    subscribers: int
    rates: dict[str, float]
    shares: dict[str, float]

    def __str__(self) -> str:
        """Give the figures as Markdown."""
        alone = self.rates[""]
        head = f"| drained while {self.subscribers} subscribers watch | tasks/s | ratio"
        rows = (
            f"| {KINDS[kind]} | {rate:.0f} | {rate / alone:.2f} | {self.shares[kind]:.1%} |"
            for kind, rate in self.rates.items()
        )
        return "\n".join([f"{head} | web's share of CPU |", "| --- | ---: | ---: | ---: |", *rows])


def measure_drain(scene: Scene, sizes: DrainSizes) -> DrainFigures:
    """Drain backlogs with and without subscribers."""
    rounds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    scene.engine.stop()
    engine = scene.process("engine", "manage.py", "engine")
    words = f"manage.py worker -Q {QUEUE} --concurrency=2 --loglevel=WARNING"
    worker = scene.process("worker", *words.split())
    work = (engine.pid, worker.pid, scene.postgres_pid)
    _drain(scene, work, min(sizes.tasks, 50))  # the worker comes up and its children connect
    for _ in range(sizes.rounds):
        for kind, found in rounds.items():
            found.append(_drain(scene, work, sizes.tasks, kind, sizes.subscribers))
    return DrainFigures(
        subscribers=sizes.subscribers,
        rates={kind: statistics.median(one[0] for one in some) for kind, some in rounds.items()},
        shares={kind: statistics.median(one[1] for one in some) for kind, some in rounds.items()},
    )


def _drain(
    scene: Scene, work: Sequence[int], tasks: int, kind: str = "", subscribers: int = 0
) -> tuple[float, float]:
    """Drain a backlog; gives its rate, and the web process's share of the processor time.

    Args:
        work: the processes that drain it, without what is below them.
    """
    fill = _FILL.format(queue=QUEUE, tasks=tasks)
    run_command(["manage.py", "shell", "--verbosity", "0", "-c", fill], env=scene.env)
    with ExitStack() as stack:
        web = stack.enter_context(scene.web())
        if kind:
            client = Client(scene, kind, subscribers, [_WITHOUT_END])
            stack.callback(client.stop)
            client.line()
        before = [cpu_seconds(pid) for pid in (web.pid, *work)]
        scene.connection.execute(_RESUME, [QUEUE])
        wait_until("the end of the backlog", lambda: _value(scene, _OPEN) == 0, seconds=300)
        after = [cpu_seconds(pid) for pid in (web.pid, *work)]
    spent = [end - begin for begin, end in zip(before, after, strict=True)]
    rate = _value(scene, _RATE)
    scene.connection.execute(_EMPTY, [QUEUE])
    return rate, spent[0] / sum(spent)


def _value(scene: Scene, statement: str) -> float:
    row = scene.connection.execute(statement, [QUEUE]).fetchone()
    return 0.0 if row is None else float(row[0])
