"""What a submission may say: one schema for the API, Python and schedules, checked at the edge.

The body of `POST /api/v1/tasks`. Unknown fields are refused, never ignored, so that a misspelt
option or an attempt to write a read-only field is told. Defaults are filled in by
`tasks_app.services.defaults`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tasks_app.limits import parse_rate
from tasks_app.registry import MAX_TIMEOUT_SECONDS, QUEUE_PATTERN
from tasks_app.services.json_values import json_size, validation_failed

MAX_METADATA_BYTES: Final = 65_536
MAX_WEBHOOKS: Final = 10
MAX_DELAY_SECONDS: Final = 31_536_000
MAX_YEAR: Final = 9998
MAX_UNIQUE_SECONDS: Final = 2_592_000
MAX_DEBOUNCE_SECONDS: Final = 604_800


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("nul_character", "NUL characters cannot be stored")
    return text


def _instant(value: Any) -> Any:
    if not isinstance(value, str | datetime):
        raise PydanticCustomError(
            "instant", "write an ISO 8601 instant with its offset, such as 2027-01-31T09:00:00Z"
        )
    return value


def _in_utc(instant: datetime) -> datetime:
    """Give the instant in UTC: the store knows neither every offset nor every year."""
    try:
        found = instant.astimezone(UTC)
    except OverflowError:
        found = None
    if found is None or found.year > MAX_YEAR:
        raise PydanticCustomError("instant_range", "write an instant of the years 1 to 9998")
    return found


def _queue_name(name: str) -> str:
    if not QUEUE_PATTERN.match(name):
        raise PydanticCustomError(
            "queue_name", "a queue name is 1 to 100 of a-z, 0-9, dot, underscore and hyphen"
        )
    return name


class ReceiverPort:
    """Who may be sent to: set by the app that sends webhooks, which this module cannot import."""

    check: ClassVar[Callable[[str], str]] = staticmethod(str)
    """Gives an address in its normal form, without asking the network.

    Raises ValueError with the reason where it may not be sent to."""


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise PydanticCustomError("url", "write an absolute http:// or https:// address")
    try:
        return ReceiverPort.check(url)
    except ValueError as error:
        raise PydanticCustomError("refused", "{reason}", {"reason": str(error)}) from error


def _rate(text: str) -> str:
    try:
        return str(parse_rate(text))
    except ValueError as error:
        raise PydanticCustomError("rate", "{reason}", {"reason": str(error)}) from error


def _unique_tags(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    size = json_size(value)
    if size > MAX_METADATA_BYTES:
        raise PydanticCustomError(
            "too_large",
            "metadata has {size} bytes, the limit is 65536",
            {"size": size},
        )
    return value


Text = Annotated[str, AfterValidator(_without_nul)]
Instant = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_instant), AfterValidator(_in_utc)
]
QueueName = Annotated[
    str,
    AfterValidator(_queue_name),
    WithJsonSchema({"type": "string", "pattern": QUEUE_PATTERN.pattern}),
]
RateText = Annotated[
    str,
    Field(
        max_length=40,
        description="Tasks per time: 10/min, 1000/s, 100/15min; s, min, h and d are known.",
    ),
    AfterValidator(_rate),
]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
Seconds = Annotated[int, Field(ge=1, le=MAX_TIMEOUT_SECONDS)]
Tag = Annotated[Text, Field(min_length=1, max_length=64)]
Tags = Annotated[list[Tag], Field(max_length=50), AfterValidator(_unique_tags)]
Metadata = Annotated[dict[Text, Any], AfterValidator(_metadata)]
Key = Annotated[Text, Field(min_length=1, max_length=200)]
Url = Annotated[
    Text,
    Field(max_length=2048),
    AfterValidator(_address),
    WithJsonSchema({"type": "string", "format": "uri", "maxLength": 2048}),
]


class Strict(BaseModel):
    """A part of a request: unknown fields and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class UniqueRule(Strict):
    """One task at a time holds `key` within the tenant.

    Attributes:
        key: 1 to 200 characters; keys of the two kinds of `while` do not meet.
        while_: `active`: until the task is finished. `ttl`: for `ttl` seconds, whatever becomes of
            it.
        ttl: seconds, with `while: ttl` alone.
        on_conflict: `return` answers with the task that holds the key, `reject` with 409.
            `replace` cancels it where it waits and submits the new one, and answers 409 where it
            has started.
    """

    key: Key
    while_: Literal["active", "ttl"] = Field("active", alias="while")
    ttl: Annotated[int, Field(ge=1, le=MAX_UNIQUE_SECONDS)] | None = None
    on_conflict: Literal["return", "reject", "replace"] = "return"

    @model_validator(mode="after")
    def _ttl_where_needed(self) -> UniqueRule:
        if (self.ttl is None) == (self.while_ == "ttl"):
            _refuse("ttl", "`while: ttl` and `ttl` (seconds) are given together")
        return self


class DebounceRule(Strict):
    """Submissions that come shortly after one another become one task, that of the last.

    Attributes:
        key: 1 to 200 characters; keys of different task types do not meet.
        wait: seconds without a further submission after which the task may start.
        max_wait: seconds after the first submission at which it may start in any case.
    """

    key: Key
    wait: Annotated[float, Field(ge=0, le=MAX_DEBOUNCE_SECONDS)]
    max_wait: Annotated[float, Field(ge=0, le=MAX_DEBOUNCE_SECONDS)]

    @model_validator(mode="after")
    def _wait_within(self) -> DebounceRule:
        if self.max_wait < self.wait:
            _refuse("max_wait", "max_wait is at least wait")
        return self


class RetryRule(Strict):
    """When a failed attempt is repeated; overrides the type's policy. Delays in seconds."""

    policy: Literal["fixed", "exponential", "never", "smart"]
    delay: Annotated[float, Field(ge=0, le=2_592_000)] | None = None
    factor: Annotated[float, Field(ge=1, le=10)] | None = None
    max_delay: Annotated[float, Field(ge=0, le=2_592_000)] | None = None
    jitter: Literal["none", "equal", "full"] | None = None


ConcurrencyStrategy = Literal["queue", "cancel_newest", "cancel_running", "keep_latest"]
"""What is done where the concurrency key is full: wait; cancel the new task; ask a running one to
stop; cancel the older ones that wait."""


class SubmissionOptions(Strict):
    """Everything a submission may say beside its type and payload; None is "the default"."""

    queue: QueueName | None = None
    priority: Priority | None = None
    max_retry: Annotated[int, Field(ge=0, le=1000)] | None = None
    queue_timeout: Seconds | None = None
    process_timeout: Seconds | None = None
    concurrency_key: Key | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    concurrency_strategy: ConcurrencyStrategy | None = None
    fair_key: Key | None = None
    delay: Annotated[float, Field(ge=0, le=MAX_DELAY_SECONDS)] | None = None
    run_at: Instant | None = None
    metadata: Metadata | None = None
    tags: Tags | None = None
    unique: UniqueRule | None = None
    debounce: DebounceRule | None = None
    webhook_url: Url | None = None
    webhook_urls: Annotated[list[Url], Field(max_length=MAX_WEBHOOKS)] | None = None
    retry: RetryRule | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> SubmissionOptions:
        if (self.concurrency_key is None) != (self.max_concurrency is None):
            missing = "concurrency_key" if self.concurrency_key is None else "max_concurrency"
            _refuse(missing, "concurrency_key and max_concurrency are given together")
        if self.concurrency_strategy is not None and self.concurrency_key is None:
            _refuse("concurrency_strategy", "concurrency_strategy needs a concurrency_key")
        if self.delay is not None and self.run_at is not None:
            _refuse("run_at", "give delay or run_at, not both")
        if self.debounce is not None:
            if self.unique is not None:
                _refuse("debounce", "give unique or debounce, not both")
            if self.delay is not None or self.run_at is not None:
                _refuse(
                    "debounce", "debounce says when the task may start; give no delay or run_at"
                )
        if self.webhook_url and len(self.webhooks or ()) > MAX_WEBHOOKS:
            _refuse("webhook_urls", "at most 10 webhook addresses")
        return self

    @property
    def webhooks(self) -> list[str] | None:
        """The addresses of both fields, each once."""
        every = ([self.webhook_url] if self.webhook_url else []) + (self.webhook_urls or [])
        return list(dict.fromkeys(every)) or None


class Submission(SubmissionOptions):
    """One task as asked for: the body of `POST /tasks`.

    Attributes:
        payload: JSON values; None and a missing payload are `{}`.
    """

    type: Annotated[Text, Field(min_length=1, max_length=100)]
    payload: Any = None


def _refuse(field: str, message: str) -> None:
    raise PydanticCustomError("conflict", "{message}", {"field": field, "message": message})


def read_submission(body: Any, *, at: str = "") -> Submission:
    """Check a submission's JSON values.

    Args:
        at: JSON pointer of `body` within the request, such as `/items/3`.

    Raises:
        ValidationFailed: `errors` names each fault by its JSON pointer.
    """
    try:
        return Submission.model_validate(body)
    except ValidationError as error:
        raise validation_failed(error, at=at) from error


def read_options(texts: Mapping[str, str], lists: Mapping[str, list[str]]) -> SubmissionOptions:
    """Check options that came as text, such as the query of `POST /task-types/{type}/tasks`.

    Args:
        lists: the options that are lists: `tags`, `webhook_urls`.

    Raises:
        ValidationFailed: as `read_submission`; pointers name the parameters.
    """
    try:
        options = SubmissionOptions.model_validate_strings(dict(texts))
        listed = SubmissionOptions.model_validate(dict(lists))
    except ValidationError as error:
        raise validation_failed(error) from error
    return options.model_copy(update={name: getattr(listed, name) for name in lists})


def plain(rule: RetryRule) -> dict[str, Any]:
    """Give the stored form of a retry rule."""
    found: dict[str, Any] = orjson.loads(rule.model_dump_json(exclude_none=True))
    return found
