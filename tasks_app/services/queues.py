"""Use cases of queues: made, changed, paused, resumed, cleaned.

A queue is a row beside its tasks. What it says for submissions is read by every process within
`DEFAULTS_SECONDS`; what it says for dispatching holds from the dispatch loop's next round, for
which these use cases ring.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from django.db import IntegrityError, OperationalError, connection, transaction
from pydantic import Field

from tasks_app.clock import monotonic
from tasks_app.errors import QueueExists, QueueNotFound, ValidationFailed
from tasks_app.events import PlatformEventType
from tasks_app.models import Queue
from tasks_app.models.queue import (
    MAX_SHARE_BY_PRIORITY,
    MAX_SHARE_NEEDS,
    MAX_WINDOW,
    WINDOW_IN_ORDER,
    WINDOW_NEEDS,
)
from tasks_app.registry import MAX_CONCURRENCY
from tasks_app.selectors.dead_letters import DeadLetterFilter
from tasks_app.selectors.queues import forget_queue_defaults, is_queue
from tasks_app.selectors.quotas import forget_quotas
from tasks_app.services.caller import Caller
from tasks_app.services.quotas import QuotaSettings
from tasks_app.services.redrive import BATCH, MAX_AT_ONCE, retry_dead_letters
from tasks_app.services.submission import (
    Priority,
    QueueName,
    RateText,
    RetryRule,
    Seconds,
    Text,
    plain,
)
from tasks_app.telemetry import logger
from tasks_app.transitions import clean, platform_event, take_back

log = logger(__name__)

DISPATCH_WAIT_SECONDS: Final = 0.5
"""How long a pause waits for a dispatch that is under way, and for rows that others have locked."""

MAX_GRACE_SECONDS: Final = 3_153_600_000

_LOOK_SECONDS: Final = 0.005

WindowSize = Annotated[int, Field(ge=1, le=MAX_WINDOW)]


class QueueSettings(QuotaSettings):
    """What holds for a queue, its quotas for all tenants together; null leaves the matter to the
    platform.

    Attributes:
        order: which of the ready tasks go first.
        priority: of tasks whose type and submission name none; so the next four.
        retry: null for that of the task's type.
        ageing_seconds: after so long a task gets its turn though others of a larger priority wait.
        max_share: most of its slots that tasks of one tenant may hold, in percent; at least one.
        window_least: fewest tasks handed to the broker ahead of the workers.
        window_most: most tasks handed to the broker ahead of the workers.
        concurrency: most tasks handed out or running at a time, of all tenants together.
        rate: most tasks handed out in any such time, of all tenants together.
    """

    description: Annotated[Text, Field(max_length=1000)] = ""
    order: Literal["priority", "oldest", "newest"] = "priority"
    priority: Priority | None = None
    max_retry: Annotated[int, Field(ge=0, le=1000)] | None = None
    process_timeout: Seconds | None = None
    queue_timeout: Seconds | None = None
    retry: RetryRule | None = None
    ageing_seconds: Seconds | None = None
    max_share: Annotated[int, Field(ge=1, le=100)] | None = None
    window_least: WindowSize | None = None
    window_most: WindowSize | None = None
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | None = None
    rate: RateText | None = None

    def columns(self) -> dict[str, Any]:
        """Give the columns of the fields that were given."""
        found = {name: getattr(self, name) for name in self.model_fields_set}
        if "retry" in found:
            rule = found.pop("retry")
            found["retry_policy"] = None if rule is None else plain(rule)
        return found


class NewQueue(QueueSettings):
    """A queue to make."""

    name: QueueName

    def columns(self) -> dict[str, Any]:
        """Give the columns of the fields that were given, but for the name."""
        found = QueueSettings.columns(self)
        found.pop("name", None)
        return found


def create_queue(*, caller: Caller, wanted: NewQueue) -> None:
    """Make a queue before its first use.

    Raises:
        QueueExists: there is one, perhaps since its first use.
        ValidationFailed: it has a share and an order that does not share, or a least window above
            the most.
    """
    try:
        with transaction.atomic():
            Queue.objects.create(name=wanted.name, **wanted.columns())
    except IntegrityError as error:
        raise _refusal(error) or QueueExists(name=wanted.name) from error
    queue_changed(wanted.name, channel="taskmill_queues")
    log.info("queue made", queue=wanted.name, actor=caller.actor)


def change_queue(*, caller: Caller, name: str, columns: Mapping[str, Any]) -> None:
    """Change columns of a queue, as `QueueSettings.columns` gives them.

    Raises:
        QueueNotFound: there is none.
        ValidationFailed: it would have a share and an order that does not share, or a least window
            above the most.
    """
    know_queue(caller=caller, name=name)
    if columns:
        try:
            with transaction.atomic():
                Queue.objects.filter(name=name).update(**columns)
        except IntegrityError as error:
            raise _refusal(error) or error from error
        queue_changed(name)
        log.info("queue changed", queue=name, actor=caller.actor, fields=sorted(columns))


_REFUSALS: Final = {
    MAX_SHARE_BY_PRIORITY: ("/max_share", "needs_priority_order", MAX_SHARE_NEEDS),
    WINDOW_IN_ORDER: ("/window_least", "window_order", WINDOW_NEEDS),
}
"""What the store refuses: pointer, code and detail by the name of its constraint."""


def _refusal(error: IntegrityError) -> ValidationFailed | None:
    for constraint, (pointer, code, detail) in _REFUSALS.items():
        if constraint in str(error):
            fault = {"pointer": pointer, "code": code, "detail": detail}
            return ValidationFailed(detail, errors=[fault])
    return None


def know_queue(*, caller: Caller, name: str) -> None:
    """See that a queue in use has its row.

    Raises:
        QueueNotFound: the name is not in use.
    """
    if not is_queue(tenant_id=caller.tenant_id, name=name):
        raise QueueNotFound(f"there is no queue {name[:100]!r}", queue=name[:100])
    Queue.objects.bulk_create([Queue(name=name)], ignore_conflicts=True)


def queue_changed(name: str, channel: str = "taskmill_dispatch") -> None:
    """Let this process forget what it remembered of a queue's row, and ring for those that read it,
    at the commit.
    """
    forget_queue_defaults()
    forget_quotas()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [channel, name])


_PAUSED: Final = platform_event(
    PlatformEventType.QUEUE_PAUSED,
    subject="m.name",
    actor="m.paused_by",
    data="jsonb_build_object('reason', m.pause_reason)",
)
_PAUSE: Final = f"""
WITH changed AS (
    UPDATE taskmill_queue SET is_paused = true, paused_by = %(by)s, paused_at = taskmill_now(),
        pause_reason = %(reason)s
    WHERE name = %(name)s AND NOT is_paused RETURNING name, paused_by, pause_reason
), {_PAUSED}
SELECT count(*) FROM changed
"""  # noqa: S608 - built from constants
_RESUMED: Final = platform_event(
    PlatformEventType.QUEUE_RESUMED,
    subject="m.name",
    actor="%(by)s::text",
    data="jsonb_build_object()",
)
_RESUME: Final = f"""
WITH changed AS (
    UPDATE taskmill_queue SET is_paused = false, paused_by = '', paused_at = NULL, pause_reason = ''
    WHERE name = %(name)s AND is_paused RETURNING name
), {_RESUMED}
SELECT count(*) FROM changed
"""  # noqa: S608 - built from constants


def pause_queue(*, caller: Caller, name: str, reason: str = "") -> bool:
    """Stop starts of a queue's tasks; those that run go on. It stays paused through restarts.

    The row is written first. A dispatch that began before holds the leader row of its loop: once
    that is free no task of the queue leaves any more, and the hints that are out are taken back.
    Where that takes longer than `DISPATCH_WAIT_SECONDS`, the loop's next round takes them back.

    Returns:
        False where it was paused before; who paused it first stays named.

    Raises:
        QueueNotFound: there is none.

    Concurrency: call it outside of transactions, since others see the pause at its commit.
    """
    know_queue(caller=caller, name=name)
    with connection.cursor() as cursor:
        cursor.execute(_PAUSE, {"name": name, "by": caller.actor, "reason": reason})
        is_new: bool = cursor.fetchone()[0] == 1
    queue_changed(name)
    _await_dispatch()
    taken = _take_hints_back(name)
    log.info("queue paused", queue=name, actor=caller.actor, taken_back=taken, is_new=is_new)
    return is_new


def _await_dispatch() -> None:
    """Wait until a dispatch transaction that is under way has ended."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{DISPATCH_WAIT_SECONDS}s'")
            cursor.execute("SELECT 1 FROM taskmill_leader WHERE loop = 'dispatch' FOR SHARE")
    except OperationalError as error:
        log.warning("a dispatch is under way for long", reason=str(error)[:200])


_HINTS_OUT: Final = """
SELECT EXISTS (SELECT 1 FROM taskmill_task WHERE state = 'dispatched' AND queue = %(name)s)
"""


def _take_hints_back(name: str) -> int:
    taken, pause, end = 0, threading.Event(), monotonic() + DISPATCH_WAIT_SECONDS
    with connection.cursor() as cursor:
        while True:
            taken += take_back(cursor, queue=name)
            cursor.execute(_HINTS_OUT, {"name": name})
            if not cursor.fetchone()[0] or monotonic() > end:
                return taken
            pause.wait(_LOOK_SECONDS)


def resume_queue(*, caller: Caller, name: str) -> bool:
    """Let a queue's tasks start again, at once.

    Returns:
        False where it was not paused.

    Raises:
        QueueNotFound: there is none.
    """
    know_queue(caller=caller, name=name)
    with connection.cursor() as cursor:
        cursor.execute(_RESUME, {"name": name, "by": caller.actor})
        is_new: bool = cursor.fetchone()[0] == 1
    queue_changed(name)
    log.info("queue resumed", queue=name, actor=caller.actor, is_new=is_new)
    return is_new


_OLD: Final = """
SELECT id FROM taskmill_task
WHERE tenant_id = %(tenant)s AND queue = %(name)s AND state = %(state)s AND finished_at IS NOT NULL
  AND finished_at <= taskmill_now() - make_interval(secs => %(grace)s::float8)
ORDER BY finished_at LIMIT %(most)s
"""


def clean_queue(*, caller: Caller, name: str, state: str, grace_seconds: float) -> int:
    """Delete the caller's tasks of a queue that ended in a state long enough ago, with their
    history, the oldest first, at most 10,000 a call, and say how many.

    Args:
        state: a final one.
        grace_seconds: younger ones stay.

    Raises:
        QueueNotFound: there is no such queue.
    """
    know_queue(caller=caller, name=name)
    values: dict[str, Any] = {"name": name, "state": state, "grace": grace_seconds}
    values |= {"tenant": caller.tenant_id, "most": MAX_AT_ONCE}
    with connection.cursor() as cursor:
        cursor.execute(_OLD, values)
        ids = [row[0] for row in cursor.fetchall()]
    count = sum(
        _clean_batch(caller, ids[start : start + BATCH], name, state, grace_seconds)
        for start in range(0, len(ids), BATCH)
    )
    log.info("queue cleaned", queue=name, actor=caller.actor, state=state, tasks=count)
    return count


def _clean_batch(
    caller: Caller, ids: Sequence[uuid.UUID], name: str, state: str, grace_seconds: float
) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        return clean(
            cursor,
            tenant_id=caller.tenant_id,
            task_ids=ids,
            queue=name,
            state=state,
            grace_seconds=grace_seconds,
        )


def retry_failed(*, caller: Caller, name: str) -> int:
    """Queue the caller's dead letters of a queue once more, at most 10,000 a call, and say how
    many.

    Raises:
        QueueNotFound: there is no such queue.
    """
    know_queue(caller=caller, name=name)
    return retry_dead_letters(caller=caller, wanted=DeadLetterFilter(queue=name))
