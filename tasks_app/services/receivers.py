"""The addresses that want a task's end: added to a task, finished or not."""

from __future__ import annotations

import uuid

from django.db import connection

from tasks_app.errors import ValidationFailed
from tasks_app.feed import FINAL_EVENTS, FeedEvent, read_feed, sequence_of_last_event
from tasks_app.selectors import absent_task, find_state
from tasks_app.services.caller import Caller
from tasks_app.services.submission import MAX_WEBHOOKS
from tasks_app.transitions.receivers import add_webhook_url


def add_task_receiver(*, caller: Caller, task_id: uuid.UUID, url: str) -> FeedEvent | None:
    """Add a webhook address to a task. Call it outside transactions; it may be repeated.

    Returns:
        The task's final event where the feed has it, so that readers of the feed may have passed
        it: the caller sends it himself. None where they will come by it.

    Concurrency: the address is committed before the feed is read. A reader who did not see the
    address was there before that, and so the feed has the event.

    Raises:
        TaskNotFound: no such task of this tenant.
        ValidationFailed: the task has as many addresses as it may have.
    """
    with connection.cursor() as cursor:
        count = add_webhook_url(cursor, tenant_id=caller.tenant_id, task_id=task_id, url=url)
        if count is None:
            raise absent_task(tenant_id=caller.tenant_id, task_ids=[task_id])
        if count > MAX_WEBHOOKS:
            detail = f"a task has at most {MAX_WEBHOOKS} webhook addresses"
            fault = {"pointer": "/url", "code": "too_many", "detail": detail}
            raise ValidationFailed(detail, errors=[fault])
        sequence = sequence_of_last_event(cursor, task_id)
        if sequence is None:
            return None
        last = read_feed(cursor, after=sequence - 1, until=sequence, tenant_id=caller.tenant_id)
    return next((event for event in last if event.type in FINAL_EVENTS), None)


def check_task_of(*, tenant_id: int, task_id: uuid.UUID) -> None:
    """Prove that a tenant has this task.

    Raises:
        TaskNotFound: it has not, or not any more.
    """
    find_state(tenant_id=tenant_id, task_id=task_id)
