"""Handlers that write an effect ledger: ground truth that the platform does not write."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pydantic import BaseModel

from tasks_app.context import TaskContext
from tasks_app.policies import Retry
from tasks_app.registry import handler


class Work(BaseModel):
    ledger: str
    seconds: float = 0.0


def note(ledger: str, word: str, ctx: TaskContext) -> None:
    """Append one line `word task epoch pid monotonic`; a single write is atomic."""
    line = f"{word} {ctx.task_id} {ctx.epoch} {os.getpid()} {time.monotonic():.6f}\n"
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
