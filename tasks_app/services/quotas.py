"""Quotas at the gate: what fits is decided under a lock that is held until the commit.

Only submissions of a tenant or to a queue with a quota come here. Whoever is first takes the lock
of the scope, counts, inserts and commits; whoever waited counts what that left. So no two are
granted the same room, and nothing is counted up that a crash or a rollback could leave wrong.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from django.db import connection
from pydantic import Field

from tasks_app.errors import QuotaExceeded
from tasks_app.metrics import SUBMISSIONS_REFUSED
from tasks_app.models import Tenant
from tasks_app.models.quota import MAX_SUBMISSIONS, MAX_WAITING, MAX_WAITING_BYTES
from tasks_app.selectors.holders import Holder
from tasks_app.selectors.quotas import (
    PERIOD_SECONDS,
    forget_quotas,
    queue_scope,
    quotas_used,
    scopes_with_quota,
    tenant_scope,
)
from tasks_app.services.caller import Caller
from tasks_app.services.submission import Strict
from tasks_app.telemetry import logger
from tasks_app.transitions import NewTask

log = logger(__name__)

BACKLOG_RETRY_SECONDS: Final = 5
"""When to try again where a backlog is full; how fast it drains is not known here."""


def limited_scopes(tasks: Collection[NewTask]) -> list[str]:
    """Give the scopes of tasks that have a quota, sorted; none for most installations."""
    scopes = {tenant_scope(task.tenant_id) for task in tasks}
    return scopes_with_quota(scopes | {queue_scope(task.queue) for task in tasks})


@dataclass(slots=True, kw_only=True)
class _Room:
    """The quotas of one scope, what is used of them, and what this gate has granted."""

    kind: str
    queue: str | None
    limits: dict[str, int | None]
    used: dict[str, int]
    seconds_left: float
    granted: int = 0

    def refusal(self, cost: dict[str, int]) -> QuotaExceeded | None:
        """Give why something does not fit, or None."""
        for quota, limit in self.limits.items():
            used = self.used[quota]
            if limit is not None and cost[quota] > 0 and used + cost[quota] > limit:
                return self._exceeded(quota, limit, used)
        return None

    def _exceeded(self, quota: str, limit: int, used: int) -> QuotaExceeded:
        whose = "the tenant" if self.queue is None else f"the queue {self.queue!r}"
        is_rate = quota == "max_submissions_per_minute"
        return QuotaExceeded(
            f"{whose} has used {used} of {limit} ({quota}); nothing was stored",
            scope=self.kind,
            queue=self.queue,
            quota=quota,
            limit=limit,
            used=used,
            retry_after=max(1, math.ceil(self.seconds_left)) if is_rate else BACKLOG_RETRY_SECONDS,
        )

    def take(self, cost: dict[str, int]) -> None:
        """Count something as granted; a negative cost gives it back."""
        self.granted += cost["max_submissions_per_minute"]
        for quota, amount in cost.items():
            self.used[quota] += amount


@dataclass(slots=True)
class Gate:
    """What of some submissions fits; open it inside the transaction that inserts them."""

    rooms: dict[str, _Room] = field(default_factory=dict)

    def refusal(self, task: NewTask, *, instead_of: Holder | None = None) -> QuotaExceeded | None:
        """Give why a task does not fit, or None.

        Args:
            instead_of: a task that waits and leaves, or takes the new contents, in the same
                transaction.
        """
        for name, room in self._rooms_of(task):
            refusal = room.refusal(_cost(task, name, instead_of))
            if refusal is not None:
                return refusal
        return None

    def take(self, task: NewTask, *, instead_of: Holder | None = None) -> None:
        """Count a task as granted."""
        for name, room in self._rooms_of(task):
            room.take(_cost(task, name, instead_of))

    def give_back(self, task: NewTask) -> None:
        """Count a granted task as not inserted."""
        for name, room in self._rooms_of(task):
            room.take({quota: -amount for quota, amount in _cost(task, name, None).items()})

    def _rooms_of(self, task: NewTask) -> list[tuple[str, _Room]]:
        if not self.rooms:
            return []
        names = (tenant_scope(task.tenant_id), queue_scope(task.queue))
        return [(name, self.rooms[name]) for name in names if name in self.rooms]

    def close(self) -> None:
        """Note what was granted for the quotas per minute; a rollback takes it back."""
        counted = {
            name: room.granted
            for name, room in self.rooms.items()
            if room.granted and room.limits["max_submissions_per_minute"] is not None
        }
        if counted:
            names, granted = list(counted), list(counted.values())
            with connection.cursor() as cursor:
                cursor.execute(_METER, {"scopes": names, "granted": granted})


def _cost(task: NewTask, scope: str, instead_of: Holder | None) -> dict[str, int]:
    is_elsewhere = instead_of is not None and instead_of.queue != task.queue
    leaves = None if is_elsewhere and scope == queue_scope(task.queue) else instead_of
    return {
        "max_waiting": 0 if leaves else 1,
        "max_waiting_bytes": task.payload_bytes - (leaves.payload_bytes if leaves else 0),
        "max_submissions_per_minute": 1,
    }


_LOCK: Final = """
SELECT count(pg_advisory_xact_lock(hashtextextended('taskmill quota ' || s.scope, 0)))
FROM unnest(%(scopes)s::text[]) AS s(scope)
"""
_METER: Final = f"""
INSERT INTO taskmill_submission_meter AS m (scope, started_at, accepted)
SELECT s.scope, taskmill_now(), s.granted
FROM unnest(%(scopes)s::text[], %(granted)s::int[]) AS s(scope, granted)
ON CONFLICT (scope) DO UPDATE SET
    accepted = excluded.accepted + CASE
        WHEN m.started_at > taskmill_now() - interval '{PERIOD_SECONDS} s' THEN m.accepted
        ELSE 0 END,
    started_at = CASE
        WHEN m.started_at > taskmill_now() - interval '{PERIOD_SECONDS} s' THEN m.started_at
        ELSE excluded.started_at END
"""  # noqa: S608 - built from constants


def open_gate(scopes: Sequence[str]) -> Gate:
    """Lock scopes until the end of the transaction and see what room they have.

    Args:
        scopes: sorted, as `limited_scopes` gives them; the order keeps gates from a deadlock.

    Concurrency: waits for the commits of others that passed the same gate. Counting is a statement
    of its own, so that it sees them.
    """
    if not scopes:
        return Gate()
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, {"scopes": list(scopes)})
    tenants = [int(name.removeprefix("tenant:")) for name in scopes if name.startswith("tenant:")]
    queues = [name.removeprefix("queue:") for name in scopes if name.startswith("queue:")]
    rows = quotas_used(tenants=tenants, queues=queues)
    return Gate({row["scope"]: _room(row) for row in rows})


_BYTES: Final = "SELECT payload_bytes FROM taskmill_task WHERE id = %(id)s"


def enter_queue(*, task_id: uuid.UUID, queue: str) -> None:
    """Take room in a queue for a task that waits in another one and moves to it in the caller's
    transaction: as a submission to it, so that no quota is passed by a detour.

    Raises:
        QuotaExceeded: the queue has no room.

    Concurrency: as `open_gate`, where the queue has a quota; nothing else.
    """
    gate = open_gate(scopes_with_quota([queue_scope(queue)]))
    for room in gate.rooms.values():
        with connection.cursor() as cursor:
            cursor.execute(_BYTES, {"id": task_id})
            row = cursor.fetchone()
        cost = {"max_waiting": 1, "max_waiting_bytes": row[0] if row else 0}
        cost["max_submissions_per_minute"] = 1
        refusal = room.refusal(cost)
        if refusal is not None:
            note_refusal(refusal)
            raise refusal
        room.take(cost)
    gate.close()


def _room(row: dict[str, Any]) -> _Room:
    kind, _, name = row["scope"].partition(":")
    return _Room(
        kind=kind,
        queue=name if kind == "queue" else None,
        limits={
            "max_waiting": row["max_waiting"],
            "max_waiting_bytes": row["max_waiting_bytes"],
            "max_submissions_per_minute": row["max_submissions_per_minute"],
        },
        used={
            "max_waiting": row["waiting"],
            "max_waiting_bytes": row["waiting_bytes"],
            "max_submissions_per_minute": row["accepted"],
        },
        seconds_left=row["seconds_left"],
    )


class QuotaSettings(Strict):
    """The quotas of a tenant, over all of its queues; null lifts one.

    Attributes:
        max_waiting: most tasks that wait; submissions beyond get 429.
        max_waiting_bytes: most bytes of JSON in the payloads of those.
        max_submissions_per_minute: most tasks accepted in a minute.
    """

    max_waiting: Annotated[int, Field(ge=1, le=MAX_WAITING)] | None = None
    max_waiting_bytes: Annotated[int, Field(ge=1, le=MAX_WAITING_BYTES)] | None = None
    max_submissions_per_minute: Annotated[int, Field(ge=1, le=MAX_SUBMISSIONS)] | None = None

    def columns(self) -> dict[str, Any]:
        """Give the columns of the fields that were given."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def change_quotas(*, caller: Caller, columns: Mapping[str, Any]) -> None:
    """Set or lift quotas of the caller's tenant, as `QuotaSettings.columns` gives them."""
    if columns:
        Tenant.objects.filter(pk=caller.tenant_id).update(**columns)
        forget_quotas()
        log.info("quotas changed", actor=caller.actor, fields=sorted(columns))


def note_refusal(error: QuotaExceeded) -> None:
    """Count a refusal for operators."""
    SUBMISSIONS_REFUSED.labels(error.fields["scope"], error.fields["quota"]).inc()
