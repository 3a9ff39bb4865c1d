"""`@schedule`: schedules that stand in the code, above the handler they start.

    @schedule("*/5 * * * *", key="reports.hourly", timezone="Europe/Berlin")
    @handler("reports.build")
    def build() -> None: ...

They are written into the tables when a beat starts; one that is gone from the code is disabled,
never deleted, so that its history stays. Every beat has to load the same handlers.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from django.db import connection, transaction

from scheduler.decisions import CatchUp, Overlap, Spread
from scheduler.errors import InvalidRule, ScheduleDeclarationError
from scheduler.writing import (
    Policies,
    Timing,
    Wanted,
    check_policies,
    check_timing,
    retire_missing,
    upsert_declared,
)
from tasks_app.errors import NotFound
from tasks_app.platform import tenant_id_of
from tasks_app.public import Handler
from tasks_app.telemetry import logger

log = logger(__name__)

_LOCK = "SELECT pg_advisory_xact_lock(7263840155)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A schedule as declared.

    Attributes:
        payload: JSON values.
        options: submission options of its tasks.
    """

    key: str
    task: str
    tenant: str
    timing: Timing
    policies: Policies
    payload: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


_declared: dict[tuple[str, str], Declared] = {}


def schedule(
    cron: str | None = None,
    *,
    key: str | None = None,
    every: timedelta | float | None = None,
    timezone: str = "UTC",
    payload: Any = None,
    tenant: str = "default",
    options: Mapping[str, Any] | None = None,
    **policies: Any,
) -> Callable[[Handler], Handler]:
    """Declare a schedule of a handler; several may be stacked.

    Args:
        cron: five fields, instead of `every`.
        key: stable name, unique in the tenant; the task type where left out.
        every: seconds or a `timedelta`, instead of `cron`.
        timezone: IANA name, for `cron`.
        payload: JSON values of the payload.
        tenant: slug of the tenant whose tasks are started.
        options: submission options: `queue`, `priority`, `tags`, ...
        **policies: fields of `scheduler.writing.Policies`, such as `overlap="skip"`.

    Raises:
        ScheduleDeclarationError: the declaration is wrong; says how.
    """
    seconds = every.total_seconds() if isinstance(every, timedelta) else every

    def declare(declared: Handler) -> Handler:
        name = key or declared.type
        try:
            timing = Timing(cron=cron, timezone=timezone, interval_seconds=seconds)
            check_timing(timing)
            found = Declared(
                key=name,
                task=declared.type,
                tenant=tenant,
                timing=timing,
                policies=_policies(policies),
                payload=payload,
                options=dict(options or {}),
                description=declared.description,
            )
        except (InvalidRule, ValueError, TypeError) as error:
            raise ScheduleDeclarationError(f"schedule {name}: {error}") from error
        if _declared.setdefault((tenant, name), found) != found:
            raise ScheduleDeclarationError(f"there are two schedules {name}; give them keys")
        return declared

    return declare


def _policies(given: dict[str, Any]) -> Policies:
    kinds: dict[str, Callable[[Any], Any]] = {
        "overlap": Overlap,
        "catch_up": CatchUp,
        "spread": Spread,
    }
    known = {name: kinds[name](value) if name in kinds else value for name, value in given.items()}
    policies = replace(Policies(), **known)
    check_policies(policies)
    return policies


def declared_schedules() -> list[Declared]:
    """Give every declared schedule."""
    return list(_declared.values())


def sync_declared() -> bool:
    """Bring the tables in line with the code: add, change, disable.

    Returns:
        Whether every declaration has its tenant; the others are left out.

    Concurrency: one process at a time; others wait and find it done.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOCK)
        kept: list[uuid.UUID] = []
        is_complete = True
        for one in declared_schedules():
            try:
                tenant_id = tenant_id_of(one.tenant)
            except NotFound:
                log.warning("a declared schedule has no tenant", schedule=one.key)
                is_complete = False
                continue
            kept += upsert_declared(
                Wanted(
                    key=one.key,
                    task_type=one.task,
                    timing=one.timing,
                    policies=one.policies,
                    payload=one.payload,
                    options=one.options,
                    description=one.description,
                ),
                tenant_id=tenant_id,
            )
        retire_missing(kept)
        return is_complete
