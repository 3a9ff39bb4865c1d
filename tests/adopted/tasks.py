"""Celery tasks as any project has them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from celery import Task, current_task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded


class Told(Task):
    """A base class with hooks and an `apply_async` of its own."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        return super().apply_async(args, {**(kwargs or {}), "customer": "acme"}, **options)

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        Path(args[0]).write_text(f"failure {type(exc).__name__} {task_id} {kwargs['customer']}")

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        Path(args[0]).write_text(f"success {retval} {task_id}")


@shared_task
def add(left: int, right: int = 0) -> int:
    return left + right


@shared_task(bind=True, max_retries=2)
def flaky(self: Any, failures: int, hurry: float = 0) -> dict[str, Any]:
    if self.request.retries < failures:
        raise self.retry(countdown=hurry, exc=ValueError(f"failure {self.request.retries}"))
    info = self.request.delivery_info
    return {
        "id": self.request.id,
        "retries": self.request.retries,
        "args": list(self.request.args),
        "current": current_task.request.id,
        "queue": info["routing_key"],
        "headers": self.request.headers,
        "direct": self.request.called_directly,
    }


@shared_task(
    bind=True, autoretry_for=(ConnectionError,), retry_kwargs={"max_retries": 4, "countdown": 0}
)
def connect(self: Any, failures: int) -> int:
    if self.request.retries < failures:
        raise ConnectionError("no route")
    return int(self.request.retries)


@shared_task
def broken() -> None:
    raise LookupError("not there")


@shared_task(bind=True)
def render(self: Any, pages: int, hold: str) -> str:
    self.update_state(state="PROGRESS", meta={"current": 1, "total": pages, "file": "a.pdf"})
    Path(hold).touch()
    while Path(hold).exists():
        time.sleep(0.02)
    self.update_state(state="UPLOADING", meta={"to": "store"})
    Path(hold).touch()
    while Path(hold).exists():
        time.sleep(0.02)
    return "done"


@shared_task(bind=True)
def swallow(self: Any) -> str:
    if self.request.retries == 0:
        self.retry(countdown=0, throw=False)
    return f"run {self.request.retries}"


@shared_task(bind=True)
def other_arguments(self: Any, number: int) -> None:
    raise self.retry(args=[number + 1])


@shared_task(bind=True)
def fake_end(self: Any) -> None:
    self.update_state(state="FAILURE", meta={"why": "x"})


@shared_task
def leave(how: str) -> None:
    raise Ignore if how == "ignore" else Reject("no good")


@shared_task(ignore_result=True)
def quiet() -> object:
    return object()


@shared_task(soft_time_limit=1, time_limit=5)
def limited(path: str) -> str:
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        Path(path).write_text("tidied")
        raise
    return "never"


@shared_task(base=Told)
def told(path: str, is_good: bool, customer: str = "") -> str:
    if not is_good:
        raise OSError("bad")
    return customer


@shared_task
def parent() -> str:
    return str(add.delay(1, 1).id)


@shared_task(rate_limit="10/m", expires=90)
def bounded() -> None: ...
