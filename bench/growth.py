"""What a long life costs: `python -m bench.growth [--waiting N] [--finished N]`.

Drains a backlog from an empty database and from one with many waiting and many finished tasks, in
turn. Those are not submitted: SQL copies them from two tasks that the platform made, without events
and attempts, with the lists' indexes built afterwards, so that loading takes minutes. The waiting
tasks are in a paused queue of their own. See docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg

from bench.goals import goal_table
from bench.http_client import TASK, Connection, exchange, request
from bench.processes import BenchFault
from bench.report import RESULTS, costs, load_average, machine, table, write_lines
from bench.rounds import QUICK, Sizes, measure
from bench.run import end_in_order, sayer, whole
from bench.stage import Stage
from bench.taskmill import Taskmill

WAITING, FINISHED = 1_000_000, 10_000_000
QUICK_WAITING, QUICK_FINISHED = 2_000, 5_000
ROWS_PER_STATEMENT = 500_000
PARKED, ARCHIVE = "parked", "archive"
_BEFORE = "interval '1 hour' + n * interval '40 ms'"
WAITING_CHANGES = {"id": f"uuidv7(-({_BEFORE}))"}
FINISHED_CHANGES = {
    "id": f"uuidv7(-({_BEFORE}))",
    "queue": f"'{ARCHIVE}'",
    "finished_at": f"t.finished_at - ({_BEFORE})",
}
_COLUMNS = """
SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
WHERE attrelid = 'taskmill_task'::regclass AND attnum > 0 AND NOT attisdropped
"""
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes i
WHERE tablename = 'taskmill_task' AND NOT EXISTS
    (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexname::regclass)
    AND indexdef NOT LIKE 'CREATE UNIQUE%'
"""


class Grown(Taskmill):
    """Taskmill beside what a long life leaves in its database."""

    key = "taskmill-grown"
    redis_databases = {"rabbitmq": (6, 7)}

    def __init__(self, stage: Stage, *, waiting: int, finished: int) -> None:
        super().__init__(stage, "rabbitmq")
        self.name = f"beside {waiting:,} waiting and {finished:,} finished"
        self._waiting = waiting
        self._finished = finished

    def start(self) -> None:
        """Start, and load the rows."""
        super().start()
        self._finish_some()
        connection = Connection(self.port)
        exchange(connection, self._request("/api/v1/tasks", TASK | {"queue": PARKED}), 202)
        exchange(connection, self._request(f"/api/v1/queues/{PARKED}/pause", {}), 200)
        with self.stage.connect(self.database) as found:
            self._load(found)
        self.empty()

    def _finish_some(self) -> None:
        """Let some tasks be done, so that there is one to copy."""
        self.start_worker()
        self.latency(2)
        self.stop_worker()

    def _request(self, path: str, body: Mapping[str, Any]) -> bytes:
        return request(path, body, token=self.env["BENCH_TOKEN"])

    def _load(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '1GB'")
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(f'DROP INDEX "{name}"')
        copy_task(connection, self._finished, "state = 'success'", FINISHED_CHANGES)
        copy_task(
            connection,
            self._waiting - 1,
            f"state = 'queued' AND queue = '{PARKED}'",
            WAITING_CHANGES,
        )
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute("VACUUM ANALYZE taskmill_task")

    def empty(self) -> None:
        """Remove the tasks that were drained, and all history: that of the others is none."""
        with self.stage.connect(self.database) as connection:
            connection.execute("DELETE FROM taskmill_task WHERE queue = 'default'")
            connection.execute("TRUNCATE taskmill_event, taskmill_attempt")
            connection.execute("CHECKPOINT")


def copy_task(
    connection: psycopg.Connection[Any], count: int, which: str, changes: Mapping[str, str]
) -> None:
    """Copy one task so many times.

    Args:
        which: the condition that finds it.
        changes: expressions of the columns that differ, of the copy's number `n`.

    Raises:
        BenchFault: there is no such task.
    """
    row = connection.execute(_COLUMNS).fetchone()
    columns = row[0] if row else []
    chosen = ", ".join(changes.get(name, f't."{name}"') for name in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    statement = f"""
    INSERT INTO taskmill_task ({names}) SELECT {chosen}
    FROM (SELECT * FROM taskmill_task WHERE {which} LIMIT 1) t, generate_series(%s::int, %s::int) n
    """
    copied = 0
    for first in range(1, count + 1, ROWS_PER_STATEMENT):
        last = min(first + ROWS_PER_STATEMENT - 1, count)
        copied += connection.execute(statement, [first, last]).rowcount
    if copied != count:
        raise BenchFault(f"{copied} of {count} tasks were copied where {which}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and print them.

    Args:
        arguments: of the command line; those of the process by default.
    """
    options = _options(arguments)
    end_in_order()
    start, say = perf_counter(), sayer()
    sizes = QUICK if options.quick else Sizes()
    if options.rounds:
        sizes = replace(sizes, rounds=options.rounds)
    waiting = options.waiting or (QUICK_WAITING if options.quick else WAITING)
    finished = options.finished or (QUICK_FINISHED if options.quick else FINISHED)
    try:
        say("start PostgreSQL, Valkey and RabbitMQ")
        with Stage(["max_wal_size=8GB"]) as stage:
            about = machine(stage) | {"load average at the start": load_average()}
            grown = Grown(stage, waiting=waiting, finished=finished)
            found = measure([Taskmill(stage, "rabbitmq"), grown], ["drain"], sizes, say)
    except BenchFault as fault:
        raise SystemExit(f"bench-growth: {fault}") from fault
    about["load average at the end"] = load_average()
    about["took"] = f"{perf_counter() - start:.0f} s"
    lines = "\n".join(f"* {name}: {value}" for name, value in about.items())
    print(f"\n{lines}\n\n{goal_table(found)}\n\n{table(found)}\n\n{costs(found)}\n")
    path = options.results / f"growth-{about['at'][:10]}.jsonl"
    print(f"Kept in {write_lines(found, sizes, about, path=path)}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--waiting", type=whole, help=f"waiting tasks; {WAITING:,} by default")
    parser.add_argument("--finished", type=whole, help=f"finished tasks; {FINISHED:,} by default")
    parser.add_argument("--rounds", type=whole, help="how often each drain is measured")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of JSON lines")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
