"""Starts the tasks of firings that were just recorded, in the transaction that records them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from scheduler.loading import Loaded
from scheduler.ticking.events import FIRED, RETURNING
from tasks_app.db import Cursor
from tasks_app.errors import RequestError
from tasks_app.platform import (
    Caller,
    ScheduledSubmission,
    cancel_task,
    submit_scheduled,
    task_states,
)
from tasks_app.public import StateConflict, TaskNotFound

_OPEN: Final = """
SELECT schedule_id, task_id FROM taskmill_firing
WHERE is_open AND task_id IS NOT NULL AND schedule_id = ANY(%(ids)s)
"""

_STARTED: Final = f"""
WITH changed AS (UPDATE taskmill_firing f SET
    task_id = r.task_id, outcome = r.outcome, reason = r.reason,
    is_open = r.task_id IS NOT NULL,
    fired_at = CASE WHEN r.task_id IS NOT NULL THEN taskmill_now() END
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
    id bigint, task_id uuid, outcome text, reason text)
WHERE f.id = r.id RETURNING {RETURNING}
), {FIRED}
SELECT count(*) FROM changed
"""  # noqa: S608 - built from constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A recorded firing whose task is to be started."""

    firing_id: int
    one: Loaded
    nominal_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What became of a `Start`: a task's id, or why there is none."""

    start: Start
    task_id: uuid.UUID | None
    reason: str = ""


def unfinished_tasks(cursor: Cursor, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[uuid.UUID]]:
    """Give the unfinished tasks of these schedules' firings, by schedule."""
    if not ids:
        return {}
    cursor.execute(_OPEN, {"ids": list(ids)})
    pairs = cursor.fetchall()
    states = task_states([task_id for _, task_id in pairs])
    found: dict[uuid.UUID, list[uuid.UUID]] = {}
    for schedule_id, task_id in pairs:
        if task_id in states and states[task_id][1] is None:
            found.setdefault(schedule_id, []).append(task_id)
    return found


def wanted_task(one: Loaded, nominal_at: datetime) -> ScheduledSubmission:
    """Give the submission of a schedule's task; its metadata names the instant."""
    options: dict[str, Any] = dict(one.row["options"])
    if one.row["queue"]:
        options["queue"] = one.row["queue"]
    metadata = {"nominal_at": nominal_at.isoformat(), **(options.get("metadata") or {})}
    return ScheduledSubmission(
        tenant_id=one.row["tenant_id"],
        schedule=one.row["key"],
        type=one.row["task"],
        payload=one.payload(),
        options={**options, "metadata": metadata},
    )


def start_tasks(cursor: Cursor, starts: Sequence[Start]) -> list[Started]:
    """Submit the tasks and note them in the firings, two statements for all."""
    if not starts:
        return []
    answers: list[Any] = _submit(starts)
    started = [
        _refused(start, answer)
        if isinstance(answer, RequestError)
        else Started(start=start, task_id=answer)
        for start, answer in zip(starts, answers, strict=True)
    ]
    rows = [
        {
            "id": one.start.firing_id,
            "task_id": one.task_id,
            "outcome": "skipped" if one.task_id is None else "fired",
            "reason": one.reason,
        }
        for one in started
    ]
    cursor.execute(_STARTED, {"rows": orjson.dumps(rows).decode()})
    return started


def _submit(starts: Sequence[Start]) -> list[uuid.UUID | RequestError]:
    wanted: list[ScheduledSubmission | RequestError] = []
    for start in starts:
        try:
            wanted.append(wanted_task(start.one, start.nominal_at))
        except ValueError as error:
            wanted.append(RequestError(f"the arguments are not JSON: {error}"))
    answers = iter(submit_scheduled([one for one in wanted if not isinstance(one, RequestError)]))
    return [one if isinstance(one, RequestError) else next(answers) for one in wanted]


def _refused(start: Start, error: RequestError) -> Started:
    reason = f"refused ({error.code}): {error.detail}"[:500]
    return Started(start=start, task_id=None, reason=reason)


def cancel_previous(one: Loaded, tasks: Iterable[uuid.UUID]) -> None:
    """Ask the unfinished tasks of a schedule to stop, in the caller's transaction."""
    caller = Caller(tenant_id=one.row["tenant_id"], actor=f"schedule:{one.row['key']}"[:120])
    for task_id in tasks:
        try:
            cancel_task(caller=caller, task_id=task_id, reason="its schedule fired again")
        except (StateConflict, TaskNotFound):
            continue
