"""Verb unblock: parked tasks whose rule has room again go back to the ready index.

Called by the dispatch loop, in the transaction that holds its leader row. `unblock` looks at a
bounded number of rules, which it finds by jumping from one to the next in the index `task_blocked`,
and the next call goes on from there: what it costs does not grow with what is parked.
`unblock_freed` looks at the rules of what has ended since the last time, which are those that
surely have room, at those that were changed or lifted, and at those that are due to be looked at
again; what it costs grows with what ends, and not with the number of full rules.

A task that is let go names its rule in `let_go_by` until it is decided about, so that the rule's
room is not given to others meanwhile. That holds within a queue alone: another queue may have no
worker, and would then hold the rule for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from tasks_app.db import Cursor
from tasks_app.limits import Rule, decide, next_token_at
from tasks_app.transitions.limiting import Limits, Subject, read_limits, subjects_of
from tasks_app.transitions.sql import IS_DEAD, IS_DONE, MOVED, STATE, TOUCH, event, reason

Place = tuple[str, str]
"""A rule and a queue in which tasks are parked by it."""

START: Final[Place] = ("", "")
RULES_AT_A_TIME: Final = 300
MOST_ENDED: Final = 1000
MOST_CHANGED: Final = 1000
MOST_OF_A_RULE: Final = 100

_BLOCKED: Final = """
WITH RECURSIVE place AS (
    (SELECT blocked_by, queue, max_concurrency FROM taskmill_task
     WHERE state = 'blocked' AND (blocked_by, queue) > (%(rule)s, %(queue)s)
     ORDER BY blocked_by, queue, priority DESC, run_at, id LIMIT 1)
    UNION ALL
    SELECT n.blocked_by, n.queue, n.max_concurrency FROM place p CROSS JOIN LATERAL (
        SELECT t.blocked_by, t.queue, t.max_concurrency FROM taskmill_task t
        WHERE t.state = 'blocked' AND (t.blocked_by, t.queue) > (p.blocked_by, p.queue)
        ORDER BY t.blocked_by, t.queue, t.priority DESC, t.run_at, t.id LIMIT 1
    ) n
)
SELECT blocked_by, queue, max_concurrency FROM place LIMIT %(most)s
"""


def _ended(of_class: str) -> str:
    return f"""(SELECT tenant_id, concurrency_key, type, finished_at FROM taskmill_task
        WHERE {of_class}
          AND finished_at > coalesce(%(since)s::timestamptz, taskmill_now() - interval '1 min')
        ORDER BY finished_at DESC LIMIT %(ended)s)"""  # noqa: S608 - built from constants


_FREED: Final = f"""
WITH ended AS MATERIALIZED (
    {_ended(IS_DONE)} UNION ALL {_ended(IS_DEAD)} ORDER BY finished_at DESC LIMIT %(ended)s
), changed AS (
    (SELECT of, tenant_id, name FROM taskmill_limit
     WHERE changed_at > coalesce(%(since)s::timestamptz - interval '1 s', '-infinity')
     ORDER BY changed_at DESC LIMIT %(changed)s)
    UNION ALL SELECT of, tenant_id, name FROM taskmill_limit
    WHERE of = 'type' AND %(since)s::timestamptz IS NULL
)
SELECT taskmill_now(), ARRAY(
    SELECT 'slots/key/' || tenant_id || '/' || concurrency_key FROM ended
    WHERE concurrency_key IS NOT NULL
    UNION SELECT 'slots/type/0/' || type FROM ended
    UNION SELECT w.what || l.of || '/' || coalesce(l.tenant_id, 0) || '/' || l.name
    FROM changed l, (VALUES ('slots/'), ('rate/')) AS w(what))
"""  # noqa: S608 - built from constants
"""Limits changed up to a second before are looked at again: their changes may commit late."""

_BLOCKED_BY: Final = "SELECT * FROM taskmill_parked_by(%(rules)s::text[]) ORDER BY 1"
"""The first queue of each rule; tasks that other queues have parked by it are found by the tour."""

_LET_GO: Final = f"""
SELECT let_go_by, queue, count(*) FROM taskmill_task t
WHERE let_go_by = ANY(%(rules)s::text[]) AND {STATE} = 'queued' GROUP BY 1, 2
"""  # noqa: S608 - built from constants

_FIRST: Final = """
SELECT c.* FROM unnest(%(rules)s::text[], %(queues)s::text[], %(room)s::int[])
    AS p(rule, queue, room)
CROSS JOIN LATERAL (
    SELECT t.id, t.queue, t.type, t.tenant_id, t.concurrency_key, t.max_concurrency, t.blocked_by,
        t.priority, t.run_at
    FROM taskmill_task t
    WHERE t.state = 'blocked' AND t.blocked_by = p.rule AND t.queue = p.queue
    ORDER BY t.priority DESC, t.run_at, t.id LIMIT p.room FOR UPDATE SKIP LOCKED
) c
ORDER BY c.queue, c.priority DESC, c.run_at, c.id
"""
_FIELDS: Final = (
    *("id", "queue", "type", "tenant_id", "concurrency_key", "max_concurrency", "blocked_by"),
)

_UNBLOCK: Final = f"""
WITH moved AS (
    UPDATE taskmill_task t SET
        state = 'queued', blocked_by = NULL, let_go_by = t.blocked_by, {TOUCH}
    WHERE t.id = ANY(%(ids)s::uuid[]) AND {STATE} = 'blocked' RETURNING {MOVED}
), {event(kind="'task.queued'", from_state="'blocked'", data=reason("limit_free"))}
SELECT count(*) FROM moved
"""  # noqa: S608 - built from constants

_BLAME: Final = f"""
UPDATE taskmill_task t SET blocked_by = v.rule
FROM unnest(%(ids)s::uuid[], %(rules)s::text[]) AS v(id, rule)
WHERE t.id = v.id AND {STATE} = 'blocked'
"""  # noqa: S608 - built from constants


@dataclass(frozen=True, slots=True)
class Unblocked:
    """How many tasks were let go, and where to go on; `START` after the last rule.

    Attributes:
        again_in: seconds until a rule is to be looked at again: until the next token of a rate, 0
            where there is one, and 0 for a rule that has room for more than was let go.
        now: the database's time of the look.
    """

    count: int
    place: Place = START
    again_in: dict[str, float] = field(default_factory=dict)
    now: datetime | None = None


def unblock(cursor: Cursor, *, after: Place = START, most: int = RULES_AT_A_TIME) -> Unblocked:
    """Return parked tasks whose rule has room again to the ready index.

    Args:
        after: where the last call ended.
        most: rules to look at.
    """
    cursor.execute(_BLOCKED, {"rule": after[0], "queue": after[1], "most": most})
    places = cursor.fetchall()
    if not places:
        return Unblocked(0)
    tasks, again_in = _first_of(cursor, places)
    count = _let_go(cursor, tasks) if tasks else 0
    place = START if len(places) < most else (places[-1][0], places[-1][1])
    return Unblocked(count, place, again_in)


def unblock_freed(
    cursor: Cursor, *, since: datetime | None, again: Collection[str] = ()
) -> Unblocked:
    """Return parked tasks to the ready index whose key or type has had a task end or a limit
    changed or lifted, or whose rule is to be looked at again.

    Args:
        since: what ended or was changed before was seen by an earlier call; None for what ended in
            the last minute, the limits that were changed last, and those of all types, for what
            handlers declare has no time. An end that commits later than others may be missed, as
            may a change more than a second late, and one of more than a thousand of either;
            `unblock` finds their rules.
        again: other rules to look at.
    """
    cursor.execute(_FREED, {"since": since, "ended": MOST_ENDED, "changed": MOST_CHANGED})
    now, rules = cursor.fetchone()
    if not rules and not again:
        return Unblocked(0, now=now)
    cursor.execute(_BLOCKED_BY, {"rules": [*rules, *again]})
    places = cursor.fetchall()
    tasks, again_in = _first_of(cursor, places) if places else ([], {})
    return Unblocked(_let_go(cursor, tasks) if tasks else 0, START, again_in, now)


def _first_of(
    cursor: Cursor, places: Sequence[Any]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Lock as many tasks of each place as its rule has room for, in order, by queue; gives
    `Unblocked.again_in`, too.
    """
    rules = {name: Rule.read(name) for name, _, _ in places}
    limits = read_limits(cursor, {(one.of, one.tenant_id, one.name) for one in rules.values()})
    again_in = _tokens_in(limits, rules)
    taken, coming = limits.taken(), _coming(cursor, rules)
    rooms: dict[Place, int] = {}
    for name, queue, own in places:
        used = taken.get(name, 0) + coming.get((name, queue), 0)
        room = limits.most(rules[name], own) - used
        if room > 0:
            rooms[name, queue] = room
    if not rooms:
        return [], again_in
    values = {
        "rules": [name for name, _ in rooms],
        "queues": [queue for _, queue in rooms],
        "room": [min(room, MOST_OF_A_RULE) for room in rooms.values()],
    }
    cursor.execute(_FIRST, values)
    tasks = [dict(zip(_FIELDS, row, strict=False)) for row in cursor.fetchall()]
    found = {(task["blocked_by"], task["queue"]) for task in tasks}
    for place, room in rooms.items():
        if room > MOST_OF_A_RULE and place in found:
            again_in[place[0]] = 0.0
    return tasks, again_in


def _tokens_in(limits: Limits, rules: Mapping[str, Rule]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, rule in rules.items():
        state = limits.states.get((rule.of, rule.tenant_id, rule.name))
        if rule.what == "rate" and state is not None and state.rate is not None:
            found[name] = next_token_at(state.spent, state.rate, state.now) - state.now
    return found


def _coming(cursor: Cursor, rules: Iterable[str]) -> dict[Place, int]:
    """Count the tasks that were let go and are not decided about, by rule and queue."""
    cursor.execute(_LET_GO, {"rules": list(rules)})
    return {(rule, queue): count for rule, queue, count in cursor.fetchall()}


def _let_go(cursor: Cursor, tasks: Sequence[Mapping[str, Any]]) -> int:
    subjects: set[Subject] = {one for task in tasks for one in subjects_of(task)}
    limits = read_limits(cursor, subjects)
    taken = limits.taken()
    coming = _coming(cursor, taken)
    free: list[Any] = []
    blamed: dict[Any, str] = {}
    for queue, members in groupby(tasks, key=lambda task: task["queue"]):
        found = list(members)
        for task, rule in zip(found, _verdicts(limits, found, taken, coming, queue), strict=True):
            if rule is None:
                free.append(task["id"])
            elif rule != task["blocked_by"]:
                blamed[task["id"]] = rule
    if blamed:
        cursor.execute(_BLAME, {"ids": list(blamed), "rules": list(blamed.values())})
    if not free:
        return 0
    cursor.execute(_UNBLOCK, {"ids": free})
    return int(cursor.fetchone()[0])


def _verdicts(
    limits: Limits,
    tasks: Sequence[Mapping[str, Any]],
    taken: Mapping[str, int],
    coming: Mapping[Place, int],
    queue: str,
) -> list[str | None]:
    used = {rule: count + coming.get((rule, queue), 0) for rule, count in taken.items()}
    return decide(limits.needs_of_all(tasks), used)
