"""Dead letters and webhooks as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, TypeVar

from taskmill_client.fields import TaskFailure, failure_of
from taskmill_client.wire import JsonObject

T = TypeVar("T", bound="Record")
_TIMES: Final = ("_at", "_until", "_since")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A value of the API; `raw` is the JSON object as it came."""

    raw: JsonObject = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter(Record):
    """A task that is out of attempts.

    Attributes:
        status: failed, error or timeout.
        frame: the innermost frame of the handler's own code, where an exception ended it.
        group_id: of its cause, the same at all times; a filter.
    """

    id: str
    type: str
    queue: str
    status: str
    attempt: int
    error: TaskFailure | None
    created_at: datetime
    finished_at: datetime
    worker: str | None
    tags: list[str]
    frame: str | None
    group_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterGroup(Record):
    """Dead letters of one cause: the same type, error code and raising frame.

    Attributes:
        id: the same at all times; give it as `group_id`.
        sample_id: the newest task of it.
    """

    id: str
    type: str
    code: str
    frame: str | None
    count: int
    first_seen_at: datetime
    last_seen_at: datetime
    sample_id: str
    sample_message: str | None
    queues: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterGroups:
    """Dead letters by cause, the largest group first.

    Attributes:
        is_capped: whether older ones than the newest 5,000 were left out.
    """

    groups: Sequence[DeadLetterGroup]
    is_capped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PacedRetry(Record):
    """Dead letters being retried so many a second.

    Attributes:
        state: running, done or aborted.
        wanted: the filter.
        total: how many fitted at its start; counted up to 100,000.
        skipped: retried or purged by others meanwhile, or a live task holds the unique key.
        progress: percent.
        finished_by: who aborted it.
    """

    id: str
    state: str
    wanted: JsonObject
    per_second: float
    total: int
    total_is_capped: bool
    retried: int
    skipped: int
    progress: float
    created_at: datetime
    created_by: str
    finished_at: datetime | None
    finished_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(Record):
    """An endpoint that gets events.

    Attributes:
        types: empty for those of tasks but `task.progress` and `task.log`.
        tags: only of tasks with one of these; empty for all.
        failures: failed tries since a success.
        previous_secret_until: until then the secret before the last rotation signs too.
        secret: `whsec_...`; where it was made with this call, else None.
    """

    id: str
    url: str
    description: str
    types: list[str]
    tags: list[str]
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    failing_since: datetime | None
    failures: int
    previous_secret_until: datetime | None
    created_at: datetime
    updated_at: datetime
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSecret(Record):
    """A new secret, which is never shown again.

    Attributes:
        previous_secret_until: until then the one before signs too; None where there was none.
    """

    secret: str = field(repr=False)
    previous_secret_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryTry(Record):
    """One try of a delivery; `status` is that of the answer, `error` a word where there is none."""

    number: int
    at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    detail: str
    address: str | None
    response_head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Record):
    """One event for one receiver.

    Attributes:
        id: the `webhook-id` of every try.
        webhook: the endpoint's id; None for an address of a task, which is `url`.
        event: the event's id.
        next_try_at: None once it is settled.
        in_flight: whether a try is under way.
        last_status, last_error: of the last try.
        body, log: what is sent, and the newest tries first; of `client.webhooks.delivery` alone.
    """

    id: str
    webhook: str | None
    task_id: str | None
    url: str | None
    event: str
    event_type: str
    state: str
    tries: int
    next_try_at: datetime | None
    in_flight: bool
    created_at: datetime
    finished_at: datetime | None
    last_status: int | None
    last_error: str | None
    body: str | None = field(default=None, repr=False)
    log: Sequence[DeliveryTry] = ()


def made(kind: type[T], raw: JsonObject) -> T:
    """Give a value of its JSON object; members that it has not are in `raw` alone."""
    names = [one.name for one in fields(kind) if one.name in raw]
    return kind(**{name: _value(name, raw[name]) for name in names}, raw=raw)


def _value(name: str, found: Any) -> Any:
    if found is None:
        return None
    if name == "at" or name.endswith(_TIMES):
        return datetime.fromisoformat(found)
    if name == "error" and isinstance(found, dict):
        return failure_of(found)
    if name == "log":
        return [made(DeliveryTry, one) for one in found]
    return found
