"""The figures of the installation, read for `/metrics`: those of every source, kept for a second.

A source that the database does not answer in time is left out and said to be missing; the others
are shown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from django.db import Error as DatabaseError
from django.db import connection, transaction

from tasks_app.clock import monotonic
from tasks_app.engine_loops import engine_loops
from tasks_app.metrics import Metric, MetricSource, Sample, declare_metrics, metric_sources
from tasks_app.selectors.measures import (
    feed_measures,
    live_tasks,
    sink_measures,
    worker_measures,
)
from tasks_app.selectors.platform import failed_steps, loops_led
from tasks_app.services.waiting_measures import WAITING_METRICS, waiting_samples
from tasks_app.telemetry import logger

KEEP_SECONDS: Final = 1.5
TIMEOUT_SECONDS: Final = 2.0
STATUSES: Final = ("online", "stopping", "lost")

FEED_LAG: Final = Metric(
    name="taskmill_feed_lag_seconds",
    doc="Age of the oldest committed event that is not in the feed yet; 0 where there is none.",
)
FEED_LAST: Final = Metric(
    name="taskmill_feed_last_sequence", doc="Sequence of the newest event in the feed."
)
SINK_LAG_EVENTS: Final = Metric(
    name="taskmill_sink_lag_events",
    doc="Events in the feed that a sink (`webhooks`, `mqtt`) has not handed on yet.",
    labels=("sink",),
)
SINK_LAG_SECONDS: Final = Metric(
    name="taskmill_sink_lag_seconds",
    doc="How long the oldest of them has been in the feed; 0 where there is none.",
    labels=("sink",),
)
TASKS: Final = Metric(
    name="taskmill_tasks",
    doc="Unfinished tasks by queue and state; counting ends at 20,000, and at 100 queues.",
    labels=("queue", "state"),
)
OLDEST_WAITING: Final = Metric(
    name="taskmill_oldest_waiting_seconds",
    doc="How long the longest waiting queued task of a queue has been due.",
    labels=("queue",),
)
WORKERS: Final = Metric(
    name="taskmill_workers",
    doc="Workers by status: `online`, `stopping`, or `lost` without a sign of life.",
    labels=("status",),
)
SLOTS: Final = Metric(
    name="taskmill_worker_slots", doc="Tasks that all online workers run at a time."
)
SLOTS_BUSY: Final = Metric(
    name="taskmill_worker_slots_busy", doc="Slots of online workers that run a task now."
)
WORKER_MEMORY: Final = Metric(
    name="taskmill_worker_memory_max_bytes",
    doc="Memory of the largest online worker with its children, in bytes.",
)
LEADER: Final = Metric(
    name="taskmill_leader",
    doc="1 where a loop of the engine has a leader, 0 where nobody runs it.",
    labels=("loop",),
)
STEP_FAILURES: Final = Metric(
    name="taskmill_step_failures",
    doc="How often a step of the loop `maintain` has failed; steps that never did are left out.",
    labels=("step",),
)
STEP_FAILING: Final = Metric(
    name="taskmill_step_failing",
    doc="1 where such a step has failed in the last three minutes: its duty is not done.",
    labels=("step",),
)
SOURCE_UP: Final = Metric(
    name="taskmill_metrics_source_up",
    doc="1 where a source of metrics could be read, 0 where its metrics are missing.",
    labels=("source",),
)
"""Of the reading itself; belongs to no source."""

_HERE: Final = "tasks_app.services.measuring"
SOURCES: Final = (
    MetricSource(
        name="feed",
        metrics=(FEED_LAG, FEED_LAST, SINK_LAG_EVENTS, SINK_LAG_SECONDS),
        read=f"{_HERE}.feed_samples",
    ),
    MetricSource(
        name="tasks",
        metrics=(TASKS, OLDEST_WAITING, *WAITING_METRICS),
        read=f"{_HERE}.task_samples",
    ),
    MetricSource(
        name="processes",
        metrics=(WORKERS, SLOTS, SLOTS_BUSY, WORKER_MEMORY, LEADER, STEP_FAILURES, STEP_FAILING),
        read=f"{_HERE}.process_samples",
    ),
)

log = logger(__name__)
_lock = threading.Lock()


@dataclass(slots=True)
class _Kept:
    until: float = 0.0
    samples: tuple[Sample, ...] = ()


_kept = _Kept()


def declare_platform_metrics() -> None:
    """Declare what the platform itself is watched by."""
    for source in SOURCES:
        declare_metrics(source)


def read_metrics() -> tuple[Sample, ...]:
    """Give every sample of every source.

    Concurrency: one reading at a time per process; others are handed it for `KEEP_SECONDS`.
    """
    with _lock:
        if _kept.until <= monotonic():
            _kept.samples = tuple(_samples())
            _kept.until = monotonic() + KEEP_SECONDS
        return _kept.samples


def forget_metrics() -> None:
    """Make the next call read again."""
    with _lock:
        _kept.until = 0.0


def _samples() -> Iterator[Sample]:
    for source in metric_sources():
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    milliseconds = str(int(TIMEOUT_SECONDS * 1000))
                    cursor.execute(
                        "SELECT set_config('statement_timeout', %s, true)", [milliseconds]
                    )
                found = list(source.samples())
        except DatabaseError as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            log.warning("metrics could not be read", source=source.name, reason=reason)
            yield Sample(SOURCE_UP, 0, (source.name,))
        else:
            yield from found
            yield Sample(SOURCE_UP, 1, (source.name,))


def feed_samples() -> Iterator[Sample]:
    """Read how far the feed and its sinks are; a sink that this installation lacks is left out."""
    feed = feed_measures()
    yield Sample(FEED_LAG, feed["lag_seconds"])
    yield Sample(FEED_LAST, feed["last_sequence"])
    needed = engine_loops()
    for row in sink_measures():
        if row["sink"] in needed:
            yield Sample(SINK_LAG_EVENTS, row["lag_events"], (row["sink"],))
            yield Sample(SINK_LAG_SECONDS, row["lag_seconds"], (row["sink"],))


def task_samples() -> Iterator[Sample]:
    """Read what waits and runs, why it waits, and what died lately."""
    found = live_tasks()
    for (queue, state), number in found.counts.items():
        yield Sample(TASKS, number, (queue, state))
    for queue, seconds in found.oldest_seconds.items():
        yield Sample(OLDEST_WAITING, seconds, (queue,))
    yield from waiting_samples(found)


def process_samples() -> Iterator[Sample]:
    """Read who is at work."""
    rows = {row["status"]: row for row in worker_measures()}
    for status in STATUSES:
        yield Sample(WORKERS, rows.get(status, {}).get("workers", 0), (status,))
    online = rows.get("online", {})
    yield Sample(SLOTS, online.get("slots", 0))
    yield Sample(SLOTS_BUSY, online.get("busy", 0))
    yield Sample(WORKER_MEMORY, online.get("memory_bytes", 0))
    led = {row["loop"] for row in loops_led() if row["is_alive"]}
    for loop in engine_loops():
        yield Sample(LEADER, loop in led, (loop,))
    for row in failed_steps():
        yield Sample(STEP_FAILURES, row["failures"], (row["step"],))
        yield Sample(STEP_FAILING, row["is_failing"], (row["step"],))
