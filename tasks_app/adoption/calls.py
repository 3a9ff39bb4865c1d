"""From the options of `apply_async` to those of a submission. Pure apart from the clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from celery.utils.time import maybe_make_aware
from django.utils import timezone

from tasks_app.adoption.signatures import refuse_canvas
from tasks_app.arguments import as_json
from tasks_app.errors import NotAdoptable

HEADERS: Final = "celery_headers"
_CANVAS: Final = {
    "link": "given a callback (link)",
    "link_error": "given a callback (link_error)",
    "chain": "part of a chain",
    "chord": "part of a chord",
    "group_id": "part of a group",
}
_OF_THE_MESSAGE: Final = frozenset(
    {
        *("add_to_parent", "compression", "confirm_timeout", "connection", "delivery_mode"),
        *("group_index", "ignore_result", "immediate", "mandatory", "parent_id", "producer"),
        *("publisher", "retry", "retry_policy", "root_id", "shadow", "replaced_task_nesting"),
        *("periodic_task_name", "argsrepr", "kwargsrepr", "expires", "countdown", "eta"),
        *("queue", "priority", "headers", "time_limit", "soft_time_limit"),
    }
)
"""What is read below, and what concerns a message, of which there is none."""
_INSTEAD: Final = {
    "task_id": "the id comes with the answer; find tasks by a tag or make them unique by a key",
    "routing_key": "say queue=",
    "exchange": "say queue=",
    "reply_to": "read the result by its id",
}


def submission_options(name: str, options: Mapping[str, Any], zone: Any) -> dict[str, Any]:
    """Give the options of a submission.

    Args:
        name: of the Celery task, for errors.
        options: of `apply_async`, the task's own included.
        zone: that of naive datetimes.

    Raises:
        NotAdoptable: an option that a submission cannot carry.
        ValueError: it would expire before it may start.
    """
    given = {key: value for key, value in options.items() if value not in (None, [], ())}
    _refuse(name, given)
    queue = given.get("queue")
    found = {
        "queue": getattr(queue, "name", queue),
        "priority": given.get("priority"),
        "process_timeout": _timeout(given),
        "metadata": {HEADERS: as_json(given["headers"], "headers")} if "headers" in given else None,
        **_times(given, zone),
    }
    return {key: value for key, value in found.items() if value is not None}


def _refuse(name: str, given: Mapping[str, Any]) -> None:
    for option, what in _CANVAS.items():
        if option in given:
            refuse_canvas(name, what)
    if given.pop("serializer", "json") != "json":  # type: ignore[attr-defined]  # own copy
        raise NotAdoptable(f"{name} is a tracked task: its arguments travel as JSON alone")
    for option in sorted(set(given) - _OF_THE_MESSAGE):
        hint = _INSTEAD.get(option, "it has no meaning without a message")
        raise NotAdoptable(f"{name} is a tracked task and takes no {option}: {hint}")


def _timeout(given: Mapping[str, Any]) -> int | None:
    limits = [given[key] for key in ("soft_time_limit", "time_limit") if key in given]
    return max(1, math.ceil(min(limits))) if limits else None


def _times(given: Mapping[str, Any], zone: Any) -> dict[str, Any]:
    now = timezone.now()
    start = now
    found: dict[str, Any] = {}
    if "countdown" in given:
        found["delay"] = max(0.0, float(given["countdown"]))
        start += timedelta(seconds=found["delay"])
    elif "eta" in given:
        found["run_at"] = _aware(given["eta"], zone)
        start = max(start, found["run_at"])
    if "expires" in given:
        found["queue_timeout"] = _seconds_to_wait(given["expires"], now, start, zone)
    return found


def _seconds_to_wait(expires: Any, now: datetime, start: datetime, zone: Any) -> int:
    """Give the queue timeout: it counts from when the task may start, Celery's from the call."""
    if isinstance(expires, int | float):
        end = now + timedelta(seconds=float(expires))
    else:
        end = _aware(expires, zone)
    if end <= start:
        raise ValueError(f"it expires at {end.isoformat()}, before it may start")
    return math.ceil((end - start).total_seconds())


def _aware(value: Any, zone: Any) -> datetime:
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    aware: datetime = maybe_make_aware(at, zone)
    return aware
