"""Verbs dispatch and block: ready tasks are handed out, or parked with the rule that refused them.

`dispatch` runs in the transaction that holds the dispatch loop's leader row. That makes it the only
writer of new slots and tokens: what a rule has in use cannot grow under it.

Tasks without a rule go in the statement that picks them. Those with one stay locked, and three more
statements read their rules, write the verdicts of `limits.decide`, and take the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from tasks_app.db import Cursor, array_of
from tasks_app.limits import Flow, Rule, decide
from tasks_app.models import QueueOrder
from tasks_app.transitions.dispatching import DispatchedTask
from tasks_app.transitions.limiting import read_limits, spend_tokens, subjects_of
from tasks_app.transitions.picking import ORDERS, PICK_OF_FLOWS, pick_of
from tasks_app.transitions.sql import MOVED, STATE, TOUCH, TYPE_HAS_LIMIT, event
from tasks_app.transitions.strategies import carry_out_strategies

_RETURNED: Final = f"""{MOVED}, t.dispatch_seq, t.type, t.queue, t.priority, t.run_at,
        t.fair_key, t.payload_bytes"""


_HINT: Final = """id, dispatch_seq, type, queue, payload_bytes, tenant_id, fair_key"""


def _hand_out(pick: str, by: str) -> str:
    return f"""
WITH {pick}, free AS (
    SELECT p.id FROM pick p
    WHERE p.concurrency_key IS NULL AND p.type <> ALL({TYPE_HAS_LIMIT})
), moved AS (
    UPDATE taskmill_task t SET
        state = 'dispatched', dispatch_seq = t.dispatch_seq + 1, dispatched_at = taskmill_now(),
        published_at = NULL, blocked_by = NULL, let_go_by = NULL, {TOUCH}
    FROM free f WHERE t.id = f.id RETURNING {_RETURNED}
), {event(kind="'task.dispatched'", from_state="'queued'", order=by.format(t=""))}
SELECT {_HINT}, concurrency_key, max_concurrency, concurrency_strategy, is_begun
FROM (
    SELECT *, NULL AS concurrency_key, NULL::int AS max_concurrency, NULL AS concurrency_strategy,
        NULL::boolean AS is_begun
    FROM (SELECT {_HINT}, priority, run_at FROM moved) free
    UNION ALL
    SELECT id, NULL, type, queue, 0, tenant_id, fair_key, priority, run_at,
        concurrency_key, max_concurrency, concurrency_strategy, is_begun
    FROM pick WHERE concurrency_key IS NOT NULL OR type = ANY({TYPE_HAS_LIMIT})
) picked
ORDER BY {by.format(t="")}
"""  # noqa: S608 - built from constants


_PICK = {order: _hand_out(pick_of(order), ORDERS[order]) for order in QueueOrder}
_PICK_OF_FLOWS = _hand_out(PICK_OF_FLOWS, ORDERS[QueueOrder.PRIORITY])

_VERDICTS = f"""
WITH verdict AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(rules)s::text[], %(reasons)s::jsonb[])
        WITH ORDINALITY AS v(id, rule, reason, place)
), moved AS (
    UPDATE taskmill_task t SET
        state = CASE WHEN v.rule IS NULL THEN 'dispatched' ELSE 'blocked' END,
        dispatch_seq = t.dispatch_seq + (v.rule IS NULL)::int,
        dispatched_at = CASE WHEN v.rule IS NULL THEN taskmill_now() END,
        published_at = NULL, blocked_by = v.rule, let_go_by = NULL, {TOUCH}
    FROM verdict v WHERE t.id = v.id AND {STATE} = 'queued'
    RETURNING {_RETURNED}, v.reason, v.place
), {event(kind="'task.' || m.state", from_state="'queued'", data="m.reason", order="place")}
SELECT id, dispatch_seq, type, queue, payload_bytes, state FROM moved
"""  # noqa: S608 - built from constants

Task = Mapping[str, Any]
_FIELDS: Final = (
    *("id", "dispatch_seq", "type", "queue", "payload_bytes", "tenant_id", "fair_key"),
    *("concurrency_key", "max_concurrency", "concurrency_strategy", "is_begun"),
)


def dispatch(
    cursor: Cursor, *, queue: str, room: int, order: QueueOrder = QueueOrder.PRIORITY
) -> tuple[list[DispatchedTask], int]:
    """Take at most `room` ready tasks in the queue's order; those that a rule refuses are parked as
    blocked. A paused queue gives none.

    Returns:
        The tasks to publish in that order, and how many others left the ready index.
    """
    picked = _decided(cursor, _PICK[order], {"queue": queue, "room": room})
    hints = [hint for _, hint in picked if hint is not None]
    return hints, len(picked) - len(hints)


def dispatch_flows(
    cursor: Cursor, *, queue: str, priority: int, takes: Mapping[Flow, int]
) -> dict[Flow, list[DispatchedTask | None]]:
    """Take the first ready tasks of a priority of each flow; otherwise as `dispatch`.

    Args:
        takes: most of each flow.

    Returns:
        What left the ready index by flow, in the flow's order: hints, and None for each task that
        is parked. Flows without any are missing.
    """
    values = {
        "queue": queue,
        "priority": priority,
        "tenants": [flow.tenant_id for flow in takes],
        "keys": [flow.fair_key for flow in takes],
        "takes": list(takes.values()),
    }
    found: dict[Flow, list[DispatchedTask | None]] = {}
    for task, hint in _decided(cursor, _PICK_OF_FLOWS, values):
        found.setdefault(Flow(task["tenant_id"], task["fair_key"]), []).append(hint)
    return found


def _decided(
    cursor: Cursor, statement: str, values: Mapping[str, Any]
) -> list[tuple[Task, DispatchedTask | None]]:
    """Give the tasks that a statement picks, each with its hint, None where it is parked."""
    cursor.execute(statement, values)
    picked: list[Task] = [dict(zip(_FIELDS, row, strict=False)) for row in cursor.fetchall()]
    ruled = [task for task in picked if task["dispatch_seq"] is None]
    sent = _dispatch_ruled(cursor, ruled) if ruled else {}
    return [
        (task, sent.get(task["id"]) if task["dispatch_seq"] is None else _hint(task))
        for task in picked
    ]


def _hint(task: Task) -> DispatchedTask:
    return DispatchedTask(*(task[name] for name in _FIELDS[:5]))


def _dispatch_ruled(cursor: Cursor, tasks: Sequence[Task]) -> dict[Any, DispatchedTask]:
    """Decide about tasks with rules; gives the hints of those that go, by id."""
    limits = read_limits(cursor, {one for task in tasks for one in subjects_of(task)})
    verdicts = decide(limits.needs_of_all(tasks), limits.taken())
    values = {
        "ids": array_of(task["id"] for task in tasks),
        "rules": verdicts,
        "reasons": [None if rule is None else _reason(rule) for rule in verdicts],
    }
    cursor.execute(_VERDICTS, values)
    sent = {row[0]: DispatchedTask(*row[:5]) for row in cursor.fetchall() if row[5] == "dispatched"}
    spend_tokens(cursor, limits, [task for task in tasks if task["id"] in sent])
    carry_out_strategies(
        cursor, [(task, rule) for task, rule in zip(tasks, verdicts, strict=True) if rule]
    )
    return sent


def _reason(rule: str) -> str:
    """Give the event data that names a rule."""
    found = Rule.read(rule)
    reason = "concurrency_limit" if found.what == "slots" else "rate_limit"
    return orjson.dumps({"reason": reason, found.of: found.name}).decode()
