"""Handlers that lean on what a context stores at once, for workers of tests."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from tasks_app.context import TaskContext
from tasks_app.errors import TaskError
from tasks_app.policies import Retry
from tasks_app.registry import handler


@handler("test.rows", retry=Retry.fixed(0), max_retry=5)
def rows(payload: dict[str, Any], ctx: TaskContext) -> dict[str, Any]:
    """Go through rows from where the attempt before stopped; it fails, or dies, at one."""
    begun = ctx.resume or 0
    for row in range(begun, payload["rows"]):
        with Path(payload["ledger"]).open("a", encoding="utf-8") as ledger:
            ledger.write(f"{row}\n")
        ctx.checkpoint(row + 1)
        if row == payload["stops_at"] and not begun:
            if payload.get("dies"):
                os.kill(os.getpid(), signal.SIGKILL)
            raise TaskError("SERVICE_UNAVAILABLE", "the table is away")
    return {"begun": begun}


@handler("test.family", retry=Retry.fixed(0), max_retry=3)
def family(payload: dict[str, Any], ctx: TaskContext) -> list[str]:
    """Spawn three children, and fail (or die) the first time."""
    found = [ctx.spawn("demo.echo", {"n": number}, tags=["child"]) for number in range(2)]
    found.append(ctx.spawn("demo.echo", {"n": 2}, key="last"))
    if ctx.attempt == 1 and not any(one.is_existing for one in found):
        if payload.get("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        raise TaskError("SERVICE_UNAVAILABLE", "try again")
    return [str(one.id) for one in found]


@handler("test.patient")
def patient(payload: dict[str, Any], ctx: TaskContext) -> bool:
    """Take longer than the process timeout, having said so once the worker had seen it run."""
    ctx.sleep(0.5)
    ctx.extend_timeout(payload["more"])
    Path(payload["path"]).touch()
    ctx.sleep(payload["seconds"])
    return ctx.remaining_seconds is not None


@handler("test.patient_async")
async def patient_async(payload: dict[str, Any], ctx: TaskContext) -> list[str]:
    """The same on a loop; what it spawns goes through a thread."""
    ctx.extend_timeout(payload["more"])
    await asyncio.sleep(payload["seconds"])
    children = [await asyncio.to_thread(ctx.spawn, "demo.echo", {"n": 1}, key="a") for _ in "ab"]
    return [str(one.id) for one in children]
