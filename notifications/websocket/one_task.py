"""Where the socket of one task begins."""

from __future__ import annotations

import uuid

from django.db import connection

from notifications.websocket.messages import MOST_DIGITS
from tasks_app.platform import (
    FINISHED,
    Beginning,
    Principal,
    begin_watching,
    sequence_of_last_event,
)
from tasks_app.public import TaskNotFound, ValidationFailed


def parse_task_id(text: str) -> uuid.UUID:
    """Read the id in the address.

    Raises:
        TaskNotFound: it is none.
    """
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise TaskNotFound from error


def parse_cursor(text: str) -> int | None:
    """Read the parameter `after`; None where it is empty.

    Raises:
        ValidationFailed: it is no sequence.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise ValidationFailed("after is the sequence of an event")
    return int(text)


def begin_task(principal: Principal, task_id: uuid.UUID, after: int | None) -> Beginning | None:
    """Say where to begin; None where the task has finished and the client has seen it.

    Raises:
        TaskNotFound: there is no such task for this principal.
    """
    if principal.watch is not None and principal.watch.task_id != task_id:
        raise TaskNotFound
    fresh = begin_watching(principal, tasks=[task_id])
    if after is None:
        return fresh
    if after <= fresh.after and fresh.snapshots[0]["state"] in FINISHED:
        with connection.cursor() as cursor:
            last = sequence_of_last_event(cursor, task_id)
        if last is not None and last <= after:
            return None
    return begin_watching(principal, tasks=[task_id], after=after)
