"""Rows for tests: tenants, keys, and tasks driven to any state by real transitions."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Collection
from typing import Any

import orjson
from django.db import connection

from tasks_app import transitions
from tasks_app.models import Tenant, WorkerProcess
from tasks_app.selectors import forget_tenants
from tasks_app.services.keys import SCOPES, create_api_key, forget_principals
from tasks_app.states import State
from tests.attempts import claim_one, succeed_one

_numbers = itertools.count(1)
ERROR = {"code": "HANDLER_ERROR", "type": "ValueError", "message": "no", "retryable": True}
WORKER = "tests:1"


def make_tenant(slug: str | None = None) -> Tenant:
    """Give a tenant with this slug, or a new one."""
    forget_tenants()
    name = slug or f"tenant-{next(_numbers)}"
    return Tenant.objects.get_or_create(slug=name, defaults={"name": name})[0]


def make_key(tenant: Tenant | None = None, scopes: Collection[str] = SCOPES) -> str:
    """Give a token of a new API key."""
    forget_principals()
    owner = tenant or make_tenant()
    return create_api_key(tenant=owner, name="tests", scopes=scopes)[1]


def make_worker(*queues: str, slots: int = 2) -> str:
    """Report a live worker of these queues and give its id."""
    worker_id = f"worker-{next(_numbers)}"
    with connection.cursor() as cursor:
        transitions.report_worker(
            cursor,
            worker_id=worker_id,
            name=WORKER,
            queues=queues or ("default",),
            slots=slots,
            busy=0,
            memory_bytes=0,
            is_stopping=False,
        )
    assert WorkerProcess.objects.filter(id=worker_id).exists()
    return worker_id


def make_task(
    tenant: Tenant | None = None,
    *,
    state: str = "queued",
    type: str = "tests.echo",  # noqa: A002 - the contract's word
    queue: str = "default",
    **fields: Any,
) -> uuid.UUID:
    """Submit a task and drive it to a state with the transitions; gives its id.

    Args:
        **fields: those of `transitions.NewTask`.
    """
    values: dict[str, Any] = {"payload": {}, "max_retry": 3, "process_timeout": 600} | fields
    if state == State.SCHEDULED:
        values.setdefault("delay_seconds", 3600)
    task = transitions.NewTask(
        tenant_id=(tenant or make_tenant()).id, type=type, queue=queue, **values
    )
    with connection.cursor() as cursor:
        assert transitions.insert_tasks(cursor, [task])
    drive(task.id, state)
    return task.id


def drive(task_id: uuid.UUID, state: str) -> None:
    """Bring a queued task to a state by a shortest path of verbs."""
    wanted = State(state)
    if wanted in {State.SCHEDULED, State.QUEUED}:
        return
    if wanted is State.BLOCKED:
        _set(
            task_id,
            "state = 'blocked', blocked_by = CASE WHEN concurrency_key IS NULL"
            " THEN 'slots/type/0/' || type"
            " ELSE 'slots/key/' || tenant_id || '/' || concurrency_key END",
        )
        return
    _set(
        task_id,
        "state = 'dispatched', dispatch_seq = dispatch_seq + 1, dispatched_at = taskmill_now()",
    )
    if wanted is not State.DISPATCHED:
        _finish(task_id, claim(task_id), wanted)


def claim(task_id: uuid.UUID) -> int:
    """Claim a dispatched task and give its epoch."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT dispatch_seq FROM taskmill_task WHERE id = %s", [task_id])
        found = claim_one(cursor, (task_id, cursor.fetchone()[0]))
    assert found is not None
    return found.epoch


def succeed(task_id: uuid.UUID) -> None:
    """Claim a dispatched task and end it well."""
    epoch = claim(task_id)
    with connection.cursor() as cursor:
        assert succeed_one(cursor, task_id, epoch=epoch)


def _finish(task_id: uuid.UUID, epoch: int, wanted: State) -> None:
    error = orjson.dumps(ERROR | {"attempt": 1}).decode()
    with connection.cursor() as cursor:
        if wanted in {State.CANCELLING, State.CANCELLED}:
            cursor.execute("SELECT tenant_id FROM taskmill_task WHERE id = %s", [task_id])
            transitions.request_cancel(
                cursor,
                tenant_id=cursor.fetchone()[0],
                task_id=task_id,
                actor="tests",
                reason="",
                grace_seconds=None,
            )
        match wanted:
            case State.SUCCESS:
                succeed_one(cursor, task_id, epoch=epoch)
            case State.FAILED | State.ERROR | State.TIMEOUT:
                transitions.fail(
                    cursor,
                    task_id,
                    epoch=epoch,
                    state=wanted.value,
                    error=error,
                    traceback="Traceback: secret",
                )
            case State.RETRYING:
                transitions.retry(cursor, task_id, epoch=epoch, delay_seconds=3600, error=error)
            case State.CANCELLED:
                transitions.confirm_cancel(cursor, task_id, epoch=epoch, how="cooperative")
    assert task_state(task_id) == wanted


def task_state(task_id: uuid.UUID) -> str:
    """Give a task's stored state."""
    return str(task_column(task_id, "state"))


def task_column(task_id: uuid.UUID, name: str) -> Any:
    """Give one column of a task's row."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {name} FROM taskmill_task WHERE id = %s", [task_id])
        return cursor.fetchone()[0]


def _set(task_id: uuid.UUID, assignment: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE taskmill_task SET {assignment} WHERE id = %s", [task_id])
