"""Use cases of paced retries: begun and aborted here, carried on by the maintain loop."""

from __future__ import annotations

import uuid
from typing import Any, Final

import orjson
from django.db import connection

from tasks_app.errors import StateConflict
from tasks_app.models.task import new_task_id
from tasks_app.selectors.dead_letters import DeadLetterFilter, dead_letters_count
from tasks_app.selectors.paced_retries import find_paced_retry
from tasks_app.services.caller import Caller
from tasks_app.telemetry import logger

log = logger(__name__)

MOST_RUNNING: Final = 100
"""Of one tenant: each is looked at several times a second."""

_RUNNING: Final = """
SELECT count(*) FROM taskmill_paced_retry WHERE tenant_id = %(tenant)s AND state = 'running'
"""
_BEGIN: Final = """
INSERT INTO taskmill_paced_retry (id, tenant_id, wanted, per_second, state, total, total_is_capped,
    retried, skipped, allowance, paced_at, created_at, created_by, finished_by)
VALUES (%(id)s, %(tenant)s, %(wanted)s::jsonb, %(per_second)s, 'running', %(total)s, %(capped)s,
    0, 0, 1, taskmill_now(), taskmill_now(), %(by)s, '')
"""
_ABORT: Final = """
UPDATE taskmill_paced_retry
SET state = 'aborted', finished_at = taskmill_now(), finished_by = %(by)s
WHERE id = %(id)s AND tenant_id = %(tenant)s AND state = 'running'
"""


def begin_paced_retry(
    *, caller: Caller, wanted: DeadLetterFilter, per_second: float
) -> dict[str, Any]:
    """Have the dead letters that fit now retried, so many a second, and give the paced retry.

    One that dies again while it goes on is not retried again by it.

    Args:
        per_second: above 0; less than one is one every so many seconds.

    Raises:
        StateConflict: `MOST_RUNNING` of the tenant go on.
    """
    with connection.cursor() as cursor:
        cursor.execute(_RUNNING, {"tenant": caller.tenant_id})
        if cursor.fetchone()[0] >= MOST_RUNNING:
            raise StateConflict(f"{MOST_RUNNING} paced retries go on; abort one, or wait for one")
    total, is_capped = dead_letters_count(tenant_id=caller.tenant_id, wanted=wanted)
    values: dict[str, Any] = {
        "id": new_task_id(),
        "tenant": caller.tenant_id,
        "wanted": orjson.dumps(wanted.chosen()).decode(),
        "per_second": per_second,
        "total": total,
        "capped": is_capped,
        "by": caller.actor,
    }
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN, values)
    log.info("paced retry begun", retry_id=str(values["id"]), actor=caller.actor, total=total)
    return find_paced_retry(tenant_id=caller.tenant_id, retry_id=values["id"])


def abort_paced_retry(*, caller: Caller, retry_id: uuid.UUID) -> dict[str, Any]:
    """End a paced retry where it is, and give it: nothing more is retried after the answer.

    Raises:
        PacedRetryNotFound: no such one of this tenant.
        StateConflict: it has ended.

    Concurrency: waits for the batch that is under way, whose transaction holds the row.
    """
    values: dict[str, Any] = {"id": retry_id, "tenant": caller.tenant_id, "by": caller.actor}
    with connection.cursor() as cursor:
        cursor.execute(_ABORT, values)
        is_taken: bool = cursor.rowcount == 1
    found = find_paced_retry(tenant_id=caller.tenant_id, retry_id=retry_id)
    if not is_taken:
        raise StateConflict(f"the paced retry is {found['state']}", state=found["state"])
    log.info("paced retry aborted", retry_id=str(retry_id), actor=caller.actor)
    return found
