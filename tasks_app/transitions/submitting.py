"""Verb submit: tasks come into being, instead of a waiting one where the key says so.

Called by the services of submission and by schedules.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final

import orjson

from tasks_app.db import Cursor
from tasks_app.jsontext import printed_bytes
from tasks_app.models.task import new_task_id
from tasks_app.transitions.sql import event


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """A task as submitted, defaults already filled in. Many on the same terms are made of the first
    one by `again`, which costs little here and in the statement.

    Attributes:
        payload: JSON values.
        payload_bytes: of the payload as JSON that the store prints; counted here.
        run_at: not before (aware), or None.
        delay_seconds: not before now plus this many seconds of the database clock, or None.
        queue_timeout: seconds it may wait for its first start, counted from when it may start.
        process_timeout: seconds an attempt may run.
        root: the first task of its line of parents, where it has a parent.
        depth: how many tasks are above it.
        debounce_key: no other task of its tenant and type that waits for its first start has it.
        is_awaited: whether somebody waits for its end, which is then rung for.
        debounce_seconds: with a key: most seconds by which later submissions may put it off.
        like: the same for all that are made of one another, and for them alone.
    """

    tenant_id: int
    type: str
    queue: str
    payload: Any
    max_retry: int
    process_timeout: int
    payload_bytes: int = field(init=False)
    id: uuid.UUID = field(default_factory=new_task_id)
    priority: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    retry_policy: Mapping[str, Any] | None = None
    queue_timeout: int | None = None
    run_at: datetime | None = None
    delay_seconds: float | None = None
    concurrency_key: str | None = None
    max_concurrency: int | None = None
    concurrency_strategy: str = "queue"
    fair_key: str = ""
    unique_key: str | None = None
    webhook_urls: Sequence[str] | None = None
    retry_of: uuid.UUID | None = None
    parent: uuid.UUID | None = None
    root: uuid.UUID | None = None
    depth: int = 0
    debounce_key: str | None = None
    debounce_seconds: float | None = None
    schedule: str | None = None
    traceparent: str = ""
    submitted_by: str = ""
    is_awaited: bool | None = None
    like: object = field(default_factory=object, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "payload_bytes", printed_bytes(orjson.dumps(self.payload)))

    def again(
        self, payload: Any, *, metadata: Mapping[str, Any], unique_key: str | None
    ) -> NewTask:
        """Give another task that shares all but what is given here, and its id."""
        other = object.__new__(NewTask)
        other.__dict__.update(
            self.__dict__,
            id=new_task_id(),
            payload=payload,
            payload_bytes=printed_bytes(orjson.dumps(payload)),
            metadata=metadata,
            unique_key=unique_key,
        )
        return other

    def own(self) -> dict[str, Any]:
        """Give what it shares with no other, for the statement."""
        own = {"id": self.id, "payload": self.payload, "payload_bytes": self.payload_bytes}
        if self.metadata:
            own["metadata"] = self.metadata
        if self.unique_key is not None:
            own["unique_key"] = self.unique_key
        return own

    def terms(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Give what the tasks made of it share, with what each has of its own."""
        shared = {
            name: value
            for name, value in self.__dict__.items()
            if value is not None and name not in _NOT_SHARED
        }
        return shared | {"rows": rows}


_OWN: Final = "id uuid, payload jsonb, payload_bytes int, metadata jsonb, unique_key text"
_NOT_SHARED: Final = {"id", "payload", "payload_bytes", "metadata", "unique_key", "like"}
_SHARED: Final = """tenant_id bigint, type text, queue text, max_retry smallint,
    process_timeout int, priority smallint, tags text[], retry_policy jsonb, queue_timeout int,
    run_at timestamptz, delay_seconds double precision, concurrency_key text, max_concurrency int,
    concurrency_strategy text, fair_key text, webhook_urls jsonb,
    retry_of uuid, parent uuid, schedule text, traceparent text, submitted_by text,
    root uuid, depth smallint, debounce_key text, debounce_seconds double precision,
    is_awaited boolean"""
"""Of the fields of `NewTask`, by their names: those of a task, and those of all on the same terms.
The second are read once for many."""

_MOVED = ("id", "tenant_id", "event_seq", "state", "epoch", "attempt", "updated_at", "queue",
    "submitted_by")  # fmt: skip
"""What the event and the bell need."""


_MISSED: Final = "CASE WHEN count(*) < %(count)s THEN coalesce(array_agg(m.id), '{}') END"


@cache
def _submit(returning: tuple[str, ...]) -> str:
    moved = ", ".join(f"t.{name}" for name in dict.fromkeys((*_MOVED, *returning)))
    shown = ", ".join(f"m.{name}" for name in ("id", *returning)) if returning else _MISSED
    return f"""
WITH incoming AS (
    SELECT r.*, s.*, greatest(taskmill_now(), coalesce(s.run_at, taskmill_now() + make_interval(
        secs => coalesce(s.delay_seconds, 0)))) AS start
    FROM json_to_recordset(%(tasks)s::json) AS s({_SHARED}, rows json)
    CROSS JOIN LATERAL json_to_recordset(s.rows) AS r({_OWN})
), moved AS (
    INSERT INTO taskmill_task AS t
        (id, tenant_id, type, queue, priority, state, version, event_seq, payload, metadata, tags,
        progress, progress_message,
         max_retry, retry_policy, attempt, attempt_base, epoch, rescues, interrupts, sweeps,
         hand_backs,
         dispatch_seq, created_at, updated_at, run_at, queued_at, queue_timeout, process_timeout,
         queue_deadline, worker, cancel_requested_by, cancel_reason, concurrency_key,
         max_concurrency, concurrency_strategy, fair_key, unique_key, webhook_urls, retry_of,
         parent, schedule, traceparent,
         submitted_by, payload_bytes, root, depth, debounce_key, debounce_until, is_awaited)
    SELECT i.id, i.tenant_id, i.type, i.queue, i.priority, CASE WHEN i.start > taskmill_now() THEN
        'scheduled' ELSE 'queued' END,
         1, 1, i.payload, coalesce(i.metadata, '{{}}'), i.tags, 0, '',
         i.max_retry, i.retry_policy, 0, 0, 0, 0, 0, 0, 0, 0,
         taskmill_now(), taskmill_now(), i.start, CASE WHEN i.start <= taskmill_now() THEN i.start
             END, i.queue_timeout,
         i.process_timeout, i.start + make_interval(secs => i.queue_timeout), '',
         '', '', i.concurrency_key, i.max_concurrency, i.concurrency_strategy, i.fair_key,
         i.unique_key, i.webhook_urls, i.retry_of, i.parent, i.schedule, i.traceparent,
         i.submitted_by, i.payload_bytes, i.root, i.depth, i.debounce_key,
         taskmill_now() + make_interval(secs => i.debounce_seconds), coalesce(i.is_awaited, false)
    FROM incoming i
    ON CONFLICT DO NOTHING
    RETURNING {moved}
), {event(kind="'task.created'", from_state="NULL", actor="m.submitted_by")}
SELECT (SELECT count(pg_notify('taskmill_dispatch', q.queue))
        FROM (SELECT DISTINCT queue FROM moved WHERE state = 'queued') q), {shown}
FROM moved m
"""  # noqa: S608 - built from constants


def insert_tasks(
    cursor: Cursor, tasks: Sequence[NewTask], *, returning: tuple[str, ...] = ()
) -> dict[uuid.UUID, tuple[Any, ...]]:
    """Insert tasks with their first events in one statement, and ring for the dispatcher at commit.

    Args:
        tasks: any number; callers bound it (1,000 a statement is a good size).
        returning: columns of the task whose values to give; a few sets of them in all, since the
            text of each statement is kept.

    Returns:
        The ids of the inserted ones with the values asked for. A task whose unique key is held by
        a live task, or whose debounce key by one that waits (or by one before it in `tasks`), is
        missing.

    Concurrency: the unique indexes arbitrate; who comes second waits for the first's commit.

    Raises:
        DataError: a payload holds what jsonb cannot store (NUL characters); callers refuse these
            before.
    """
    alike: dict[int, tuple[NewTask, list[dict[str, Any]]]] = {}
    for task in tasks:
        alike.setdefault(id(task.like), (task, []))[1].append(task.own())
    terms = [first.terms(rows) for first, rows in alike.values()]
    values = {"tasks": orjson.dumps(terms).decode(), "count": len(tasks)}
    cursor.execute(_submit(returning), values)
    if returning:
        return {row[1]: tuple(row[2:]) for row in cursor.fetchall()}
    [(_, found)] = cursor.fetchall()
    return dict.fromkeys([task.id for task in tasks] if found is None else found, ())
