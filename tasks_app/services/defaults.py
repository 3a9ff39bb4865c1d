"""From a submission to a row: the payload checked by its handler, defaults filled in.

Order of defaults: platform, then queue, then task type, then submission. Pure apart from the
settings and from the queues' defaults, which are read every few seconds (`queue_defaults`).
"""

from __future__ import annotations

import uuid
from collections.abc import Hashable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from tasks_app.conf import conf
from tasks_app.errors import PayloadTooLarge
from tasks_app.registry import Handler, get_handler
from tasks_app.selectors.queues import queue_defaults
from tasks_app.services.caller import Caller
from tasks_app.services.json_values import invalid, json_size, validation_failed
from tasks_app.services.submission import Submission, plain
from tasks_app.transitions import NewTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a submission comes from.

    Attributes:
        retry_of: the task that it repeats, or None.
        parent: the running task that submitted it, or None.
        root: the first task of the parent's line, the parent itself where that has none; or None.
        depth: how many tasks are above it.
        traceparent: W3C trace context handed to the handler, or empty.
        schedule: key of the schedule that fired it, or None.
        is_awaited: whether the submitter waits for its end.
    """

    retry_of: uuid.UUID | None = None
    parent: uuid.UUID | None = None
    root: uuid.UUID | None = None
    depth: int = 0
    traceparent: str = ""
    schedule: str | None = None
    is_awaited: bool = False


BY_HAND = Origin()


_NOT_TERMS: Final = {"payload", "metadata", "unique", "tags"}
_terms_of = itemgetter(*sorted(Submission.model_fields.keys() - _NOT_TERMS))


class Resolver:
    """Resolves many submissions: what those on the same terms share is worked out once."""

    def __init__(self, caller: Caller, *, origin: Origin) -> None:
        self._caller = caller
        self._origin = origin
        self._first: dict[Hashable, NewTask] = {}

    def resolve(self, submission: Submission, *, at: str) -> NewTask:
        """Give the row that a submission asks for; see `resolve`."""
        said = submission.__dict__
        terms = (*_terms_of(said), *(said["tags"] or ()))
        try:
            first = self._first.get(terms)
        except TypeError:  # a rule, or a list of addresses
            return resolve(self._caller, submission, origin=self._origin, at=at)
        if first is None:
            task = resolve(self._caller, submission, origin=self._origin, at=at)
            self._first[terms] = task
            return task
        handler = get_handler(submission.type)
        return first.again(
            checked_payload(handler, submission.payload, at=at),
            metadata=submission.metadata or {},
            unique_key=_live_key(submission),
        )


def resolve(
    caller: Caller, submission: Submission, *, origin: Origin = BY_HAND, at: str = ""
) -> NewTask:
    """Give the row that a submission asks for.

    Args:
        at: JSON pointer of the submission within the request, such as `/items/3`.

    Raises:
        UnknownTaskType: no handler of this type.
        ValidationFailed: the payload does not fit the handler's model; pointers under `/payload`.
        PayloadTooLarge: more than `max_payload_bytes`.
    """
    handler = get_handler(submission.type)
    debounce = submission.debounce
    queue = submission.queue or handler.options.queue
    known = defaults_of(handler, queue=queue)
    return NewTask(
        tenant_id=caller.tenant_id,
        type=handler.type,
        queue=queue,
        payload=checked_payload(handler, submission.payload, at=at),
        priority=_first(submission.priority, known.priority),
        max_retry=_first(submission.max_retry, known.max_retry),
        process_timeout=_first(submission.process_timeout, known.process_timeout),
        queue_timeout=submission.queue_timeout or known.queue_timeout,
        metadata=submission.metadata or {},
        tags=submission.tags or (),
        retry_policy=plain(submission.retry) if submission.retry else known.queue_policy,
        run_at=submission.run_at,
        delay_seconds=debounce.wait if debounce else submission.delay,
        concurrency_key=submission.concurrency_key,
        max_concurrency=submission.max_concurrency,
        concurrency_strategy=submission.concurrency_strategy or "queue",
        fair_key=submission.fair_key or "",
        unique_key=_live_key(submission),
        debounce_key=debounce.key if debounce else None,
        debounce_seconds=debounce.max_wait if debounce else None,
        webhook_urls=submission.webhooks,
        retry_of=origin.retry_of,
        parent=origin.parent,
        root=origin.root,
        depth=origin.depth,
        schedule=origin.schedule,
        traceparent=origin.traceparent,
        submitted_by=caller.actor,
        is_awaited=origin.is_awaited or None,
    )


def _live_key(submission: Submission) -> str | None:
    unique = submission.unique
    return unique.key if unique and unique.while_ == "active" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds for a task whose submission says nothing; times in seconds.

    Attributes:
        queue_policy: the queue's `retry` object, where the type declares no policy; its tasks keep
            it. Others follow what their type declares when they run.
    """

    priority: int
    max_retry: int
    process_timeout: int
    queue_timeout: int | None
    queue_policy: dict[str, Any] | None


def defaults_of(handler: Handler, *, queue: str) -> Defaults:
    """Give the defaults in force for a task type in a queue: the platform's, overridden by the
    queue's, overridden by the type's.
    """
    options, shared = handler.options, queue_defaults(queue)
    policy = shared.retry_policy if options.retry is None else None
    return Defaults(
        priority=_first(options.priority, shared.priority, 0),
        max_retry=_first(options.max_retry, shared.max_retry, conf().max_retry),
        process_timeout=_first(
            options.process_timeout_seconds,
            shared.process_timeout,
            conf().process_timeout_seconds,
        ),
        queue_timeout=options.queue_timeout_seconds or shared.queue_timeout,
        queue_policy=None if policy is None else dict(policy),
    )


def _first(*values: int | None) -> int:
    for value in values:
        if value is not None:
            return value
    raise ValueError("the last one is never None")


def checked_payload(handler: Handler, payload: Any, *, at: str = "") -> Any:
    """Give the payload to store: as sent, proven to fit the handler's model and the store.

    Raises:
        ValidationFailed: pointers lie under `{at}/payload`.
        PayloadTooLarge: more than `max_payload_bytes`.
    """
    pointer = f"{at}/payload"
    value = {} if payload is None else payload
    try:
        size = json_size(value)
        handler.decode_payload(value)
    except ValidationError as error:
        raise validation_failed(error, at=pointer) from error
    except PydanticCustomError as error:
        raise invalid(pointer, error.type, error.message()) from error
    if size > conf().max_payload_bytes:
        raise PayloadTooLarge(
            f"the payload has {size} bytes, the limit is {conf().max_payload_bytes}"
        )
    if not handler.takes_payload and value != {}:
        raise invalid(pointer, "no_payload", f"{handler.type} takes no payload")
    return value
