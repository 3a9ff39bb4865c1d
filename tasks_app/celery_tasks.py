"""Registers every task type as a Celery task of its own name; imported by Celery's autodiscovery.

Workers, Flower, routing and signals thereby see real names; what such a task does is in
`tasks_app.execution`.
"""

from __future__ import annotations

from typing import Any

from celery import shared_task

from tasks_app.execution.base import PlatformTask
from tasks_app.registry import Handler, all_handlers


def register(declared: Handler) -> Any:
    """Register the Celery task of a handler with the current and every later Celery application."""
    options: dict[str, Any] = {"platform_handler": declared, "__doc__": declared.description}
    decorate: Any = shared_task(name=declared.type, base=PlatformTask, bind=True, **options)
    return decorate(_run)


def _run(self: PlatformTask, *args: Any, **kwargs: Any) -> None:
    PlatformTask.run(self, *args, **kwargs)


registered = tuple(register(declared) for declared in all_handlers())
