"""Handlers that write an effect ledger: ground truth that the platform does not write."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import shared_task
from pydantic import BaseModel

from tasks_app.context import TaskContext
from tasks_app.policies import Retry
from tasks_app.registry import handler


class Work(BaseModel):
    ledger: str
    seconds: float = 0.0


class Instant(BaseModel):
    ledger: str
    schedule: str


def note(ledger: str, word: str, ctx: TaskContext, *more: str) -> None:
    """Append one line `word task epoch pid monotonic [more]`; a single write is atomic."""
    words = (word, str(ctx.task_id), str(ctx.epoch), str(os.getpid()), f"{time.monotonic():.6f}")
    line = " ".join((*words, *more)) + "\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, line.encode())
    os.close(descriptor)


@handler("fault.work", max_retry=20, retry=Retry.fixed(0.2), timeout=60)
def work(payload: Work, ctx: TaskContext) -> dict[str, int]:
    """Work for some seconds between two lines of the ledger."""
    note(payload.ledger, "start", ctx)
    time.sleep(payload.seconds)
    note(payload.ledger, "end", ctx)
    return {"epoch": ctx.epoch}


@handler("fault.instant", max_retry=20, retry=Retry.fixed(0.2))
def instant(payload: Instant, ctx: TaskContext) -> None:
    """Note which instant of which schedule it runs for."""
    note(payload.ledger, "start", ctx, payload.schedule, str(ctx.metadata["nominal_at"]))


@shared_task(name="fault.plain")  # type: ignore[untyped-decorator]  # Celery has no types
def plain() -> None:
    """Do nothing, as a task that Taskmill knows nothing of."""


@handler("fault.stubborn", max_retry=0, timeout=2)
def stubborn(payload: Work, ctx: TaskContext) -> None:
    """Swallow everything that asks it to stop."""
    while True:
        try:
            note(payload.ledger, "beat", ctx)
            time.sleep(0.1)
        except BaseException:  # noqa: BLE001 - what a bad handler does
            continue


@handler("fault.crash", max_retry=20, retry=Retry.fixed(0.1))
def crash(payload: Work, ctx: TaskContext) -> str:
    """Take the process down in the first attempt."""
    note(payload.ledger, "start", ctx)
    if ctx.epoch == 1:
        Path(payload.ledger).touch()
        os._exit(9)
    return "survived"
