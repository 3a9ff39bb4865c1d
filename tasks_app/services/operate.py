"""Use case revise: change a task that still waits."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from django.db import connection, transaction
from pydantic import ConfigDict, ValidationError

from tasks_app.errors import PreconditionFailed, StateConflict
from tasks_app.selectors import find_task
from tasks_app.selectors.queues import queues_unknown
from tasks_app.services.caller import Caller
from tasks_app.services.json_values import invalid, json_size, validation_failed
from tasks_app.services.new_queues import make_new_queues
from tasks_app.services.quotas import enter_queue
from tasks_app.services.submission import (
    MAX_METADATA_BYTES,
    Instant,
    Priority,
    QueueName,
    Strict,
    Tags,
)
from tasks_app.states import PENDING
from tasks_app.transitions import revise

_TRIES: Final = 5


def _without_defaults(schema: dict[str, Any]) -> None:
    for one in schema["properties"].values():
        one.pop("default", None)


class Changes(Strict):
    """A merge patch of a pending task; a key left out stays as it is.

    Attributes:
        run_at: null for "may start at once".
        tags: the whole new list; null for none.
        metadata: merged by RFC 7386: null removes a key, null as a whole removes all.
    """

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    priority: Priority = 0
    queue: QueueName = "default"
    run_at: Instant | None = None
    tags: Tags | None = None
    metadata: dict[str, Any] | None = None


def read_changes(body: Any) -> dict[str, Any]:
    """Check the JSON values of a merge patch and give those keys that it holds.

    Raises:
        ValidationFailed: a field is unknown, read-only or wrong; pointers name each.
    """
    try:
        patch = Changes.model_validate(body)
    except ValidationError as error:
        raise validation_failed(error) from error
    return {name: getattr(patch, name) for name in patch.model_fields_set}


def revise_task(
    *,
    caller: Caller,
    task_id: uuid.UUID,
    changes: Mapping[str, Any],
    version: int | None = None,
) -> None:
    """Change priority, queue, run_at, tags or metadata of a pending task.

    Args:
        changes: as `read_changes` gives them.
        version: only if the task still has this version; None for any.

    Raises:
        TaskNotFound: no such task of this tenant.
        PreconditionFailed: it has another version; `version` names it.
        StateConflict: it does not wait any more.
        TooManyQueues: the queue is not there, and no more are made.
        QuotaExceeded: the queue has no room.

    Concurrency: metadata is merged with the version that was read, and again where another
    change came first.
    """
    for _ in range(_TRIES):
        row = find_task(tenant_id=caller.tenant_id, task_id=task_id)
        if version is not None and row["version"] != version:
            raise PreconditionFailed(version=row["version"])
        if row["state"] not in PENDING:
            raise StateConflict(
                f"the task is {row['state']}; only a waiting one can be changed",
                state=row["state"],
            )
        if not changes or _revise(caller, row, changes, version):
            return
    raise StateConflict("the task keeps changing; try again")


def _revise(
    caller: Caller, row: Mapping[str, Any], changes: Mapping[str, Any], version: int | None
) -> bool:
    values = dict(changes)
    guard = version
    if "metadata" in values:
        values["metadata"] = _merged_metadata(row["metadata"], values["metadata"])
        guard = row["version"]
    if values.get("tags", ()) is None:
        values["tags"] = []
    if values.get("run_at", "") is None:
        values["run_at"] = row["created_at"]
    with transaction.atomic(), connection.cursor() as cursor:
        if values.get("queue", row["queue"]) != row["queue"]:
            _enter_queue(row["id"], values["queue"])
        changed = revise(
            cursor,
            tenant_id=caller.tenant_id,
            task_id=row["id"],
            version=guard,
            changes=values,
            actor=caller.actor,
        )
        if changed is None:
            transaction.set_rollback(True)
    return changed is not None


def _enter_queue(task_id: uuid.UUID, name: str) -> None:
    """See that a queue is there and has room for a task that moves to it, as for a submission."""
    for refusal in make_new_queues(queues_unknown([name])).values():
        raise refusal
    enter_queue(task_id=task_id, queue=name)


def _merged_metadata(stored: Mapping[str, Any], patch: Mapping[str, Any] | None) -> Any:
    merged = {} if patch is None else merge_patch(stored, patch)
    if json_size(merged) > MAX_METADATA_BYTES:
        raise invalid("/metadata", "too_large", "metadata is larger than 65536 bytes")
    return merged


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON Merge Patch (RFC 7386) and give the outcome; the arguments stay as they are."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
