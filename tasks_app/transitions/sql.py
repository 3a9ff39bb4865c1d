"""The pieces that every transition statement is made of. Built once at import from constants;
values are always parameters.

A statement names its changed rows `moved`; `event()` and `attempt()` give the CTEs that write
history from them.

Where a CTE locks the row first (to know the state before), SET takes what goes together from `t`
alone and only RETURNING looks at the CTE. PostgreSQL checks constraints on the row it computes from
the statement's snapshot before it notices that the row has changed and computes it again; a mix of
the locked row's state and the snapshot's lease would be refused in between.
"""

from __future__ import annotations

from typing import Final

from tasks_app.states import DEAD_LETTERS, FINISHED, State


def _is_any_of(states: frozenset[State]) -> str:
    names = ", ".join(f"'{state}'" for state in sorted(states))
    return f"state IN ({names})"


IS_DONE: Final = _is_any_of(FINISHED - DEAD_LETTERS)
"""Finished, and no dead letter; spelt as in the index `task_done_at`."""

IS_DEAD: Final = _is_any_of(DEAD_LETTERS)
"""A dead letter; spelt as in the index `task_dead_at`."""

TOUCH = """version = t.version + 1, event_seq = t.event_seq + 1,
        updated_at = greatest(t.updated_at, taskmill_now())"""
"""Part of every UPDATE; `greatest` keeps a task's events in order: `now()` precedes the locks."""

NO_LEASE = "lease_owner = NULL, lease_expires_at = NULL, run_deadline = NULL"

MOVED = """t.id, t.tenant_id, t.event_seq, t.state, t.epoch, t.attempt, t.updated_at,
        t.cancel_requested_at"""
"""RETURNING list that `event()` needs."""

RULED = "t.type, t.concurrency_key"
"""RETURNING list that `RING_WHERE_FREED` needs, beside `MOVED`."""

ENDED = f"{MOVED}, t.worker, t.queued_at, t.started_at, {RULED}, t.is_awaited"
"""RETURNING list that `attempt()`, `RING_WHERE_FREED` and `RING_WHO_WAITS` need."""

TYPE_HAS_LIMIT = """ARRAY(SELECT l.name::text FROM taskmill_limit l WHERE l.of = 'type'
    AND (coalesce(l.concurrency, l.declared_concurrency) IS NOT NULL
        OR coalesce(l.rate, l.declared_rate) IS NOT NULL))"""
"""The task types that any limit holds for."""

RING_WHERE_FREED = f"""(SELECT taskmill_ring_for(array_agg(rule)) FROM (
        SELECT 'slots/type/0/' || type AS rule FROM moved WHERE type = ANY({TYPE_HAS_LIMIT})
        UNION SELECT 'slots/key/' || tenant_id || '/' || concurrency_key FROM moved
        WHERE concurrency_key IS NOT NULL) freed)"""  # noqa: S608 - built from constants
"""Column of the last SELECT of a statement that ends slots: rings for the dispatch loop where
tasks are parked by a rule of a moved row. It costs an index probe per rule, and no call where
nothing that moved has any. A SELECT of its own, so that it is called once and not for each row.
"""

RING_WHO_WAITS = """(SELECT count(pg_notify('taskmill_ended', id::text)) FROM moved
    WHERE is_awaited)"""
"""Column of the last SELECT of a worker's statement that ends tasks: rings for those whose
submitter waits. Other ends are found a little later, by asking."""

PROCESSING_FROM = "CASE WHEN m.cancel_requested_at IS NULL THEN 'running' ELSE 'cancelling' END"
"""The state before a finish: CHECK constraints tie it to cancel_requested_at; no second read."""

STATE = "t.state || ''"
"""The state in a guard beside the primary key. An expression: for a bare column the planner may
take the partial index of that state, small by its statistics, and read all of it, dead rows
included."""

ATTEMPTS_LEFT = "t.attempt - t.attempt_base < t.max_retry + 1"


def event(
    *,
    kind: str,
    from_state: str,
    actor: str = "''",
    data: str = "NULL::jsonb",
    order: str = "id",
    moved: str = "moved",
    name: str = "event",
) -> str:
    """Give the CTE `name` that writes one event per row of `moved`, numbered in `order`.

    Arguments are SQL expressions over `m`. Without an order the plan would choose it, and with it
    which of two tasks dispatched together is seen to go first.
    """
    return f"""{name} AS (
        INSERT INTO taskmill_event
            (task_id, tenant_id, seq, type, from_state, state, epoch, attempt, at, actor, data)
        SELECT m.id, m.tenant_id, m.event_seq, {kind}, {from_state}, m.state, m.epoch, m.attempt,
            m.updated_at,
               {actor}, {data}
        FROM {moved} m ORDER BY {order}
    )"""  # noqa: S608 - arguments are constants of this package


def attempt(
    *,
    outcome: str,
    error: str = "NULL::jsonb",
    traceback: str = "''",
    number: str = "m.attempt",
    finished: str = "m.updated_at",
) -> str:
    """Give the CTE that writes the ended attempt of each moved row; arguments are SQL over `m`."""
    return f"""ended AS (
        INSERT INTO taskmill_attempt
            (task_id, tenant_id, epoch, attempt, worker, outcome, queued_at, started_at,
            finished_at, error, traceback)
        SELECT m.id, m.tenant_id, m.epoch, {number}, m.worker, {outcome}, m.queued_at,
            m.started_at, {finished}, {error}, {traceback}
        FROM moved m
    )"""  # noqa: S608 - arguments are constants of this package


def reason(why: str) -> str:
    """Give the event data that says why a step was taken."""
    return f"jsonb_build_object('reason', '{why}')"
