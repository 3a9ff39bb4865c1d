"""Admission: which submissions become tasks, past quotas, unique keys and debouncing.

The one way in for all submissions, by API, Python and schedules. Most tasks meet no quota and no
key in use and cost their one statement, or a thousand of them together. For the others the store
arbitrates: a key by its unique index, a quota under its lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection, transaction

from tasks_app.db import prepared_cursor
from tasks_app.errors import DuplicateTask, QuotaExceeded, TooManyQueues
from tasks_app.selectors.holders import (
    Holder,
    holder_debounced,
    holder_while_active,
)
from tasks_app.selectors.queues import queues_unknown
from tasks_app.selectors.rows import COLUMNS
from tasks_app.services.new_queues import make_new_queues, refused_queues
from tasks_app.services.quotas import Gate, limited_scopes, note_refusal, open_gate
from tasks_app.services.submission import UniqueRule
from tasks_app.services.unique_holds import held_by, hold
from tasks_app.states import PENDING
from tasks_app.transitions import NewTask, debounce, displace, insert_tasks

CHUNK: Final = 1000
CHUNK_BYTES: Final = 2_000_000
"""Of payloads in a statement, unless one alone has more. Each connection keeps room for the longest
statement that it has sent."""

TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What became of a submission.

    Attributes:
        task_id: the new task, or the one that holds the key.
        is_existing: whether it was there before.
        values: of the row as inserted, in the order of `selectors.rows.COLUMNS`; None of one that
            was there before, or where they were not asked for.
    """

    task_id: uuid.UUID
    is_existing: bool = False
    values: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """A task that asks for admission; `unique` says what its key means."""

    task: NewTask
    unique: UniqueRule | None = None

    @property
    def holds_for_a_time(self) -> bool:
        """Whether its key is held beside the task."""
        return self.unique is not None and self.unique.while_ == "ttl"

    @property
    def replaces(self) -> bool:
        """Whether it takes the place of the waiting task of its key."""
        return self.unique is not None and self.unique.on_conflict == "replace"

    @property
    def is_plain(self) -> bool:
        """Whether one INSERT says what becomes of it, unless its key is in use."""
        return not self.holds_for_a_time and self.task.debounce_key is None

    @property
    def waits_for_nobody(self) -> bool:
        """Whether no other transaction can make its INSERT wait: it has no key, no quota and no new
        queue.
        """
        if self.unique is not None or self.task.debounce_key is not None:
            return False
        return not (limited_scopes([self.task]) or queues_unknown([self.task.queue]))


Outcome = Submitted | QuotaExceeded | DuplicateTask | TooManyQueues


def admit(
    applicants: Sequence[Applicant], *, is_shown: bool = False, is_brief: bool = True
) -> list[Outcome]:
    """Insert what may be inserted and say what became of each, in order.

    Args:
        is_shown: give the values of the rows, too.
        is_brief: the caller's transaction, if any, ends soon: new queues are made in it.

    Nothing is written for a refused one. Joins the caller's transaction, or opens one where it
    takes more than one statement; where it has only one, there is none.

    Concurrency: keys are arbitrated by their indexes, quotas by locks that are held until the
    commit; a quota's lock of a caller's long transaction makes others wait.
    """
    new = queues_unknown({one.task.queue for one in applicants})
    if new:
        with transaction.atomic():
            refused = make_new_queues(new) if is_brief else refused_queues(new)
            fitting = [one for one in applicants if one.task.queue not in refused]
            outcomes = iter(_admit_known(fitting, is_shown=is_shown))
            return [refused.get(one.task.queue) or next(outcomes) for one in applicants]
    return _admit_known(applicants, is_shown=is_shown)


def _admit_known(applicants: Sequence[Applicant], *, is_shown: bool) -> list[Outcome]:
    scopes = limited_scopes([one.task for one in applicants])
    if scopes or any(one.holds_for_a_time or one.replaces for one in applicants):
        with transaction.atomic():
            return _admit(applicants, open_gate(scopes), is_shown=is_shown)
    return _admit(applicants, Gate(), is_shown=is_shown)


def _admit(applicants: Sequence[Applicant], gate: Gate, *, is_shown: bool) -> list[Outcome]:
    fitting = []
    for one in applicants:
        if one.is_plain and gate.refusal(one.task) is None:
            gate.take(one.task)
            fitting.append(one.task)
    inserted = _insert(fitting, is_shown=is_shown)
    for task in fitting:
        if task.id not in inserted:
            gate.give_back(task)
    settled = {
        one.task.id: _settled(one, gate)
        for one in sorted(applicants, key=_key_of)
        if one.task.id not in inserted
    }
    gate.close()
    for outcome in settled.values():
        if isinstance(outcome, QuotaExceeded):
            note_refusal(outcome)
    return [
        settled.get(one.task.id) or _submitted(one.task.id, inserted[one.task.id])
        for one in applicants
    ]


def _submitted(task_id: uuid.UUID, values: Sequence[Any]) -> Submitted:
    return Submitted(task_id=task_id, values=values or None)


def _key_of(one: Applicant) -> str:
    """Give what to sort by, so that all take the locks of keys in one order."""
    return one.task.debounce_key or (one.unique.key if one.unique else "")


def _insert(tasks: Sequence[NewTask], *, is_shown: bool = False) -> dict[uuid.UUID, Sequence[Any]]:
    """Insert what no key keeps out; give the values of each by its id, none unless asked for."""
    ordered = sorted(tasks, key=lambda task: task.unique_key or "")
    returning = COLUMNS if is_shown else ()
    inserted: dict[uuid.UUID, Sequence[Any]] = {}
    with prepared_cursor() as cursor:
        for chunk in _chunks(ordered):
            inserted |= insert_tasks(cursor, chunk, returning=returning)
    return inserted


def _chunks(tasks: Sequence[NewTask]) -> Iterator[Sequence[NewTask]]:
    chunk: list[NewTask] = []
    size = 0
    for task in tasks:
        if len(chunk) == CHUNK or (chunk and size + task.payload_bytes > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(task)
        size += task.payload_bytes
    if chunk:
        yield chunk


def _settled(one: Applicant, gate: Gate) -> Outcome:
    """Settle one whose key is in use, or that does not fit, or that needs more statements."""
    for _ in range(TRIES):
        found = _debounced(one, gate) if one.task.debounce_key else _by_holder(one, gate)
        if found is not None:
            return found
        refusal = gate.refusal(one.task)
        if refusal is not None:
            return refusal
        if _held(one) and (inserted := _insert([one.task], is_shown=True)):
            gate.take(one.task)
            return _submitted(one.task.id, inserted[one.task.id])
    return DuplicateTask("tasks with this key come and go too quickly; try again")


def _debounced(one: Applicant, gate: Gate) -> Submitted | QuotaExceeded | None:
    task, holder = one.task, None
    if gate.rooms:
        holder = holder_debounced(
            tenant_id=task.tenant_id, task_type=task.type, key=str(task.debounce_key)
        )
        refusal = None if holder is None else gate.refusal(task, instead_of=holder)
        if refusal is not None:
            return refusal
    with connection.cursor() as cursor:
        task_id = debounce(cursor, task)
    if task_id is None:
        return None
    gate.take(task, instead_of=holder)
    return Submitted(task_id=task_id, is_existing=True)


_LOCK_KEY: Final = "SELECT pg_advisory_xact_lock(hashtextextended('taskmill key ' || %(name)s, 0))"
"""Those that replace one another queue up here; none sees its holder go away and tries again."""


def _by_holder(one: Applicant, gate: Gate) -> Outcome | None:
    if one.unique is None:
        return None
    tenant_id, key = one.task.tenant_id, one.unique.key
    if one.replaces:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK_KEY, {"name": f"{tenant_id} {key}"})
    find = held_by if one.holds_for_a_time else holder_while_active
    holder = find(tenant_id=tenant_id, key=key)
    if holder is None:
        return None
    if one.unique.on_conflict == "return":
        return Submitted(task_id=holder.id, is_existing=True)
    if one.unique.on_conflict == "reject":
        return DuplicateTask(
            f"the live task {holder.id} holds this unique key", task_id=str(holder.id)
        )
    return _replaced(one, holder, gate)


def _replaced(one: Applicant, holder: Holder, gate: Gate) -> Outcome | None:
    if holder.state not in PENDING:
        return DuplicateTask(
            f"the task {holder.id} of this key is {holder.state}; only a waiting one is replaced",
            task_id=str(holder.id),
        )
    refusal = gate.refusal(one.task, instead_of=holder)
    if refusal is not None:
        return refusal
    with connection.cursor() as cursor:
        if not displace(cursor, holder.id, newer=one.task):
            return None
    if not (_held(one, before=holder.id) and (inserted := _insert([one.task], is_shown=True))):
        return None
    gate.take(one.task, instead_of=holder)
    return _submitted(one.task.id, inserted[one.task.id])


def _held(one: Applicant, *, before: uuid.UUID | None = None) -> bool:
    """Say whether the key of one that holds it for a time is now its own."""
    if one.unique is None or not one.holds_for_a_time:
        return True
    return hold(
        tenant_id=one.task.tenant_id,
        key=one.unique.key,
        task_id=one.task.id,
        ttl_seconds=one.unique.ttl,
        before=before,
    )
