"""The calls about one task, which `client.tasks` and a task itself make alike."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from taskmill_client.calls import UNSET, given, id_path, keyed_call, post_call
from taskmill_client.wire import Call, JsonObject

_SEVERAL: Final = ("status", "state", "tag")
_ADVICE: Final = "a task's id is `task.id` of what submit() and list() give"


def task_path(task_id: str | uuid.UUID, suffix: str = "") -> str:
    """Give the path of a task.

    Raises:
        ValueError: it is no id, so that nothing else is asked for by mistake.
    """
    return id_path("tasks", task_id, suffix, advice=_ADVICE)


def cancel_call(task_id: str | uuid.UUID, reason: str, *, force: bool) -> Call:
    """Ask to cancel; repeating it changes nothing."""
    body: JsonObject = {"reason": reason} if reason else {}
    if force:
        body["force"] = True
    return post_call(task_path(task_id, "/cancel"), body, is_repeatable=True)


def again_call(task_id: str | uuid.UUID, verb: str, payload: Any, key: str | None) -> Call:
    """Ask to run it again (`retry`), or another one like it (`rerun`)."""
    return keyed_call(task_path(task_id, f"/{verb}"), given(payload=payload), key)


def update_call(task_id: str | uuid.UUID, version: int | None, **changes: Any) -> Call:
    """Ask to change what is given.

    Of one version it is not repeated: the second of two that arrive finds the first one's.
    """
    tags = changes["tags"]
    if tags is not UNSET and tags is not None:
        changes["tags"] = list(tags)
    return Call(
        method="PATCH",
        path=task_path(task_id),
        body=given(**changes),
        headers={} if version is None else {"If-Match": f'"{version}"'},
        is_repeatable=version is None,
    )


def one_value(filters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse several values where the server would take the last one."""
    for name, value in filters.items():
        if name not in _SEVERAL and isinstance(value, list | tuple | set | frozenset):
            raise TypeError(f"{name} takes one value; several are for {', '.join(_SEVERAL)}")
    return filters
