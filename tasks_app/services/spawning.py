"""Use case spawn: a running task submits a child, once over all its attempts."""

from __future__ import annotations

import uuid

import orjson
from django.db import connection, transaction

from tasks_app import progress as store
from tasks_app.context import Child, TaskContext
from tasks_app.errors import LeaseLost
from tasks_app.services.handles import TaskHandle, submit


def spawn_child(child: Child, context: TaskContext) -> TaskHandle:
    """Submit a child and note its id under its key, in one transaction; or give the one noted.

    Raises:
        LeaseLost: the attempt is not the task's any more; nothing was submitted.

    Concurrency: the parent's row is locked first, as every write to it does, until the
    transaction (the caller's, where there is one) ends. Threads of an attempt go one by one.
    """
    task_id, epoch = context.task_id, context.epoch
    with transaction.atomic(), connection.cursor() as cursor:
        if not store.hold_attempt(cursor, task_id, epoch=epoch):
            raise LeaseLost(task_id=task_id, epoch=epoch)
        found = store.find_once(cursor, task_id, child.key)
        if found is not None:
            noted = uuid.UUID(orjson.loads(found[0]))
            return TaskHandle(noted, tenant=context.tenant, is_existing=True)
        handle = submit(child.type, child.payload, **child.options)
        noted_id = orjson.dumps(str(handle.id)).decode()
        store.store_once(cursor, task_id, epoch=epoch, key=child.key, value=noted_id)
        return handle
