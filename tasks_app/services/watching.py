"""Where a live view of events begins: what may be watched, from which sequence, shown how.

One use case for every transport: server-sent events, WebSocket, SignalR.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection

from tasks_app.errors import ScopeMissing, TaskNotFound, ValidationFailed
from tasks_app.events import SCOPE_OF_EVENT, EventType
from tasks_app.feed import Wanted, feed_bounds
from tasks_app.selectors import absent_task, task_object, tasks_by_id
from tasks_app.selectors.task_object import API_ROOT
from tasks_app.services.keys import Principal

MOST_NAMED: Final = 100
MOST_TAG_CHARACTERS: Final = 64
TYPES: Final = frozenset(kind.value for kind in EventType) | SCOPE_OF_EVENT.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """How a live view begins.

    Attributes:
        after: the sequence that what follows comes after; read before the snapshots were.
        snapshots: task rows to show first; none where the watcher resumes.
        is_reset: the watcher's cursor is not in the feed; the snapshots stand in.
    """

    wanted: Wanted
    after: int
    snapshots: Sequence[Mapping[str, Any]] = ()
    is_reset: bool = False


def begin_watching(
    principal: Principal,
    *,
    tasks: Collection[uuid.UUID] = (),
    tags: Collection[str] = (),
    types: Collection[str] = (),
    after: int | None = None,
    place: str = "",
) -> Beginning:
    """Say where a view of some events begins, within what the principal may see.

    Args:
        tasks, tags, types: at most a hundred each; empty for all, of types for all of tasks.
        after: the sequence to resume from; None to begin with a snapshot of each named task.
        place: JSON pointer of where the lists were given, for errors.

    Raises:
        TaskNotFound: a task is not there, or not for this principal.
        ValidationFailed: an event type is unknown, a list or a tag too long.
        ScopeMissing: a type is of the platform, and not for this principal.
    """
    _check(place, tasks=tasks, tags=tags, types=types)
    check_event_scopes(principal, types)
    wanted = _wanted(principal, frozenset(tasks), frozenset(tags), frozenset(types), place)
    with connection.cursor() as cursor:
        bounds = feed_bounds(cursor)
    rows = tasks_by_id(tenant_id=wanted.tenant_id, task_ids=sorted(wanted.tasks))
    if len(rows) < len(wanted.tasks):
        absent = wanted.tasks.difference(rows)
        raise absent_task(tenant_id=wanted.tenant_id, task_ids=absent)
    if after is not None and bounds.has(after):
        return Beginning(wanted=wanted, after=after)
    return Beginning(
        wanted=wanted,
        after=bounds.last,
        snapshots=list(rows.values()),
        is_reset=after is not None,
    )


def _check(place: str, **lists: Collection[Any]) -> None:
    for name, named in lists.items():
        if len(named) > MOST_NAMED:
            raise _invalid(place, name, f"give at most {MOST_NAMED} {name}", "length")
    if unknown := sorted(set(lists["types"]) - TYPES):
        raise _invalid(place, "types", f"there is no event type {unknown[0]}")
    if any(len(tag) > MOST_TAG_CHARACTERS for tag in lists["tags"]):
        raise _invalid(place, "tags", f"a tag has at most {MOST_TAG_CHARACTERS} characters")


def check_event_scopes(principal: Principal, types: Collection[str]) -> None:
    """See that a principal may have events of these types; those of tasks are for everybody.

    Raises:
        ScopeMissing: one is of a queue, a worker or a schedule, and the principal lacks the scope,
            or holds a watch token, which shows tasks alone.
    """
    for name in types:
        scope = SCOPE_OF_EVENT.get(name)
        if scope is not None and (principal.watch is not None or scope not in principal.scopes):
            detail = f"events of the type {name} need an API key with the scope {scope}"
            raise ScopeMissing(detail, scope=scope)


def _wanted(
    principal: Principal,
    tasks: frozenset[uuid.UUID],
    tags: frozenset[str],
    types: frozenset[str],
    place: str,
) -> Wanted:
    watch = principal.watch
    if watch is not None and watch.task_id is not None:
        if not tasks <= {watch.task_id}:
            raise TaskNotFound
        tasks = frozenset({watch.task_id})
    if watch is not None and watch.tag is not None:
        if tasks:
            raise _invalid(place, "tasks", "this watch token is for a tag")
        tags = frozenset({watch.tag})
    return Wanted(tenant_id=principal.tenant_id, tasks=tasks, tags=tags, types=types)


def _invalid(place: str, name: str, detail: str, code: str = "invalid") -> ValidationFailed:
    error = {"pointer": f"{place}/{name}", "code": code, "detail": detail}
    return ValidationFailed(detail, errors=[error])


def task_snapshot(row: Mapping[str, Any], sequence: int) -> dict[str, Any]:
    """Give a task row as a CloudEvent; later events of the task have greater numbers in `id`."""
    task_id = str(row["id"])
    return {
        "specversion": "1.0",
        "id": f"{task_id}.{row['event_seq']}.snapshot",
        "source": f"{API_ROOT}/tasks",
        "type": "task.snapshot",
        "subject": task_id,
        "time": row["updated_at"],
        "datacontenttype": "application/json",
        "sequence": sequence,
        "data": task_object(row),
    }
