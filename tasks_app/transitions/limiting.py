"""What the rules of tasks say and how far they are used: read for `deciding` and `unblocking`,
behind the fence of the one dispatcher.

A slot is a predicate over rows: `state IN ('dispatched', 'running', 'cancelling')`. Nothing is
counted up or down, so nothing leaks with a dead worker. The tokens of a rate are in the rule's row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from tasks_app.db import Cursor
from tasks_app.limits import (
    Candidate,
    Need,
    Rate,
    Rule,
    Spent,
    is_ahead,
    parse_rate,
    spend,
    tokens_out,
)
from tasks_app.limits.rules import Of

UNLIMITED: Final = 2**31

HOLDS_SLOT: Final = "state IN ('dispatched', 'running', 'cancelling')"

_LIMITS: Final = f"""
WITH active AS MATERIALIZED (
    SELECT type, count(*) AS used FROM (
        SELECT type FROM taskmill_task WHERE state = 'dispatched'
        UNION ALL SELECT type FROM taskmill_task WHERE state IN ('running', 'cancelling')
    ) a GROUP BY type
)
SELECT 'key' AS of, k.tenant_id, k.name, l.id, l.concurrency, l.rate, l.spent,
    (SELECT count(*) FROM taskmill_task a WHERE a.tenant_id = k.tenant_id
        AND a.concurrency_key = k.name AND a.finished_at IS NULL AND a.{HOLDS_SLOT}) AS used,
    extract(epoch FROM taskmill_now())::float8 AS now
FROM unnest(%(tenants)s::bigint[], %(keys)s::text[]) AS k(tenant_id, name)
LEFT JOIN taskmill_limit l ON l.of = 'key' AND l.tenant_id = k.tenant_id AND l.name = k.name
UNION ALL
SELECT 'type', 0, l.name, l.id, coalesce(l.concurrency, l.declared_concurrency),
    coalesce(l.rate, l.declared_rate), l.spent,
    coalesce((SELECT used FROM active WHERE active.type = l.name), 0),
    extract(epoch FROM taskmill_now())::float8
FROM taskmill_limit l WHERE l.of = 'type' AND l.name = ANY(%(types)s::text[])
"""  # noqa: S608 - built from constants

Subject = tuple[Of, int, str]
"""What a limit is of: a key of a tenant, or a type (of tenant 0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """A limit as its row says, with its use; `row_id` is None where a key has no row."""

    row_id: int | None
    concurrency: int | None
    rate: Rate | None
    spent: Spent
    used: int
    now: float


@dataclass(slots=True)
class Limits:
    """The limits of some tasks, and what is taken of them."""

    states: dict[Subject, LimitState] = field(default_factory=dict)

    def needs(self, task: Mapping[str, Any]) -> Candidate:
        """Give what a task needs: slots before tokens, of its key before of its type.

        Args:
            task: a row with type, tenant_id, concurrency_key and max_concurrency.
        """
        found: list[Need] = []
        subjects = subjects_of(task)
        for subject in subjects:
            most = self._slots(subject, task["max_concurrency"])
            if most is not None:
                found.append(Need(str(Rule("slots", *subject)), most))
        for subject in subjects:
            state = self.states.get(subject)
            if state is not None and state.rate is not None:
                found.append(Need(str(Rule("rate", *subject)), state.rate.tasks))
        return Candidate(needs=tuple(found))

    def needs_of_all(self, tasks: Iterable[Mapping[str, Any]]) -> list[Candidate]:
        """Give the needs of each task; those of one key, type and own limit are made once."""
        known: dict[tuple[Any, ...], Candidate] = {}
        found: list[Candidate] = []
        for task in tasks:
            of = (
                task["type"],
                task["tenant_id"],
                task["concurrency_key"],
                task["max_concurrency"],
            )
            needs = known.get(of)
            if needs is None:
                needs = known[of] = self.needs(task)
            found.append(needs)
        return found

    def most(self, rule: Rule, own: int | None) -> int:
        """Give how many units of a rule there are, for a task whose own limit is `own`."""
        if rule.what == "slots":
            most = self._slots((rule.of, rule.tenant_id, rule.name), own)
            return UNLIMITED if most is None else most
        state = self.states.get((rule.of, rule.tenant_id, rule.name))
        return UNLIMITED if state is None or state.rate is None else state.rate.tasks

    def _slots(self, subject: Subject, own: int | None) -> int | None:
        state = self.states.get(subject)
        pinned = None if state is None else state.concurrency
        return own if pinned is None and subject[0] == "key" else pinned

    def taken(self) -> dict[str, int]:
        """Give the units in use by rule: slots, and tokens that are out."""
        found: dict[str, int] = {}
        for subject, state in self.states.items():
            found[str(Rule("slots", *subject))] = state.used
            if state.rate is not None:
                out = tokens_out(state.spent, state.rate, state.now)
                found[str(Rule("rate", *subject))] = out
        return found


def subjects_of(task: Mapping[str, Any]) -> list[Subject]:
    """Give what the limits of a task are of."""
    of_type: Subject = ("type", 0, task["type"])
    if task["concurrency_key"] is None:
        return [of_type]
    return [("key", task["tenant_id"], task["concurrency_key"]), of_type]


def read_limits(cursor: Cursor, subjects: Iterable[Subject]) -> Limits:
    """Read limits and their use in one statement.

    Concurrency: exact while the transaction holds the dispatch loop's leader row, but for tasks
    that end meanwhile.
    """
    wanted = set(subjects)
    keys = sorted(one[1:] for one in wanted if one[0] == "key")
    values = {
        "tenants": [tenant_id for tenant_id, _ in keys],
        "keys": [name for _, name in keys],
        "types": sorted(one[2] for one in wanted if one[0] == "type"),
    }
    cursor.execute(_LIMITS, values)
    return Limits({(row[0], row[1], row[2]): _state(*row[3:]) for row in cursor.fetchall()})


def _state(row_id: int | None, concurrency: int | None, rate: str | None, *rest: Any) -> LimitState:
    spent, used, now = rest
    return LimitState(
        row_id=row_id,
        concurrency=concurrency,
        rate=None if rate is None else parse_rate(rate),
        spent=read_spent(spent),
        used=used,
        now=now,
    )


def read_spent(stored: Any) -> Spent:
    """Give a bucket as stored: Django's connections hand JSON over as text."""
    found: Spent = orjson.loads(stored) if isinstance(stored, str) else stored or []
    return found


_SPEND: Final = """
UPDATE taskmill_limit l SET spent = s.spent
FROM unnest(%(ids)s::bigint[], %(spent)s::jsonb[]) AS s(id, spent) WHERE l.id = s.id
"""


def spend_tokens(cursor: Cursor, limits: Limits, gone: Iterable[Mapping[str, Any]]) -> None:
    """Take the tokens of the tasks that go, in the transaction that hands them out."""
    counts = Counter(subject for task in gone for subject in subjects_of(task))
    changed = {
        state.row_id: orjson.dumps(
            spend(state.spent, state.rate, state.now, counts[subject])
        ).decode()
        for subject, state in limits.states.items()
        if state.rate is not None and (counts[subject] or is_ahead(state.spent, state.now))
    }
    if changed:
        cursor.execute(_SPEND, {"ids": list(changed), "spent": list(changed.values())})


_QUEUE: Final = """
SELECT q.concurrency, q.rate, q.spent, CASE WHEN q.concurrency IS NULL THEN 0 ELSE
    (SELECT count(*) FROM taskmill_task d WHERE d.state = 'dispatched' AND d.queue = q.name)
    + (SELECT count(*) FROM taskmill_task r
       WHERE r.state IN ('running', 'cancelling') AND r.queue = q.name) END,
    extract(epoch FROM taskmill_now())::float8
FROM taskmill_queue q WHERE q.name = %(queue)s
"""
_SPEND_OF_QUEUE: Final = """
UPDATE taskmill_queue SET spent = %(spent)s::jsonb WHERE name = %(queue)s
"""


@dataclass(frozen=True, slots=True)
class QueueRoom:
    """What a queue's own limits leave: they narrow the room, they park nothing."""

    queue: str
    state: LimitState

    def narrow(self, room: int) -> int:
        """Give how many tasks may be taken, of `room`."""
        state = self.state
        slots = UNLIMITED if state.concurrency is None else state.concurrency - state.used
        tokens = UNLIMITED
        if state.rate is not None:
            tokens = state.rate.tasks - tokens_out(state.spent, state.rate, state.now)
        return max(0, min(room, slots, tokens))

    def spend(self, cursor: Cursor, count: int) -> None:
        """Take the tokens of so many tasks, in the transaction that hands them out."""
        state = self.state
        if state.rate is None or not (count or is_ahead(state.spent, state.now)):
            return
        spent = spend(state.spent, state.rate, state.now, count)
        cursor.execute(
            _SPEND_OF_QUEUE, {"queue": self.queue, "spent": orjson.dumps(spent).decode()}
        )


def read_queue_room(cursor: Cursor, *, queue: str) -> QueueRoom:
    """Read the limits of a queue that has a row, and their use.

    Concurrency: as `read_limits`.
    """
    cursor.execute(_QUEUE, {"queue": queue})
    concurrency, *rest = cursor.fetchone()
    return QueueRoom(queue, _state(None, concurrency, *rest))
