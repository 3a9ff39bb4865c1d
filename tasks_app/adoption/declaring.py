"""Makes task types of Celery tasks; used while the apps' modules are imported."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterable
from typing import Any, Final

from celery import Task

from tasks_app.adoption.running import SoftTimeLimit, only_when_asked, run
from tasks_app.adoption.task import AdoptedTask
from tasks_app.arguments import CallArguments, declare_call
from tasks_app.context import TaskContext
from tasks_app.errors import NotAdoptable
from tasks_app.policies import Retry
from tasks_app.registry import Handler

PREFIX: Final = "celery."
MOST_RETRIES: Final = 1000
_RATE: Final = re.compile(r"^(\d+)(?:/([smh]))?$")
_UNITS: Final = {None: "s", "s": "s", "m": "min", "h": "h"}


def from_celery(task: Any, name: str | None = None, **options: Any) -> Handler:
    """Make a Celery task a task type; from then on its calls submit tasks of that type.

    Args:
        task: what `@shared_task` or `@app.task` gave.
        name: of the type; by default `celery.` and the Celery name in lower case. Not the Celery
            name itself, under which messages that are under way still run.
        **options: those of `@handler`, in place of what the Celery task declares.

    Raises:
        NotAdoptable: it cannot be adopted as it stands; says why.
        HandlerDeclarationError: the type is no type or is taken.
    """
    if not isinstance(task, Task):
        raise NotAdoptable(f"{task!r} is no Celery task")
    found: Any = task.app.tasks[task.name]
    task_type = name or PREFIX + found.name.lower()
    _check(found, task_type)
    options = {**_options(found), **options}
    if "rate" not in options:
        options["rate"] = _rate(found)
    max_retry: int = options["max_retry"]

    def run_adopted(payload: CallArguments, ctx: TaskContext) -> Any:
        return run(found, payload, ctx, max_retry=max_retry)

    is_checked = bool(found.typing)
    declared = declare_call(
        task_type, run_adopted, stands_for=found.run, is_checked=is_checked, **options
    )
    declared.timeout_error = SoftTimeLimit
    _adopt(found, task_type)
    return declared


def adopt_modules(names: Iterable[str]) -> None:
    """Make every Celery task that these modules declare a task type.

    Raises:
        NotAdoptable: a module declares none, or one that cannot be adopted.
    """
    for name in names:
        module = importlib.import_module(name)
        own = [
            one
            for one in vars(module).values()
            if isinstance(one, Task) and one.__module__ == module.__name__
        ]
        if not own:
            raise NotAdoptable(f"{name} of TASKMILL_ADOPT declares no Celery tasks")
        for one in own:
            if not isinstance(one, AdoptedTask):
                from_celery(one)


def _check(task: Any, task_type: str) -> None:
    if isinstance(task, AdoptedTask):
        raise NotAdoptable(f"{task.name} is adopted already, as {task.taskmill_type}")
    if task_type == task.name or task_type in task.app.tasks:
        raise NotAdoptable(
            f"{task_type} is the name of a Celery task, whose messages may be under way: give the "
            "type another name"
        )
    if (task.serializer or "json") != "json":
        raise NotAdoptable(
            f"{task.name} is serialized as {task.serializer}; a task's payload is JSON"
        )


def _options(task: Any) -> dict[str, Any]:
    """Give the options of `@handler` that a Celery task's own stand for."""
    said = getattr(task, "retry_kwargs", {}).get("max_retries")
    retries = [task.max_retries, *([] if said is None else [said])]
    limits = [one for one in (task.soft_time_limit, task.time_limit) if one]
    return {
        "queue": getattr(task, "queue", None) or "default",
        "priority": getattr(task, "priority", None),
        "max_retry": MOST_RETRIES if None in retries else min(MOST_RETRIES, max(retries)),
        "retry": Retry.custom(only_when_asked),
        "timeout": max(1, math.ceil(min(limits))) if limits else None,
    }


def _rate(task: Any) -> str | None:
    if not task.rate_limit:
        return None
    found = _RATE.match(str(task.rate_limit))
    if found is None:
        raise NotAdoptable(
            f"{task.name} has the rate limit {task.rate_limit!r}: say it as rate=, such as "
            '"10/min", to from_celery'
        )
    return f"{found[1]}/{_UNITS[found[2]]}"


def _adopt(task: Any, task_type: str) -> None:
    """Put `AdoptedTask` behind the classes of a task and before Celery's."""
    own = type(task)
    task.__class__ = type(own.__name__, (own, AdoptedTask), {"taskmill_type": task_type})
