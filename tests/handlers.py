"""Handlers that only tests need; workers of tests load them through TASKMILL_HANDLER_MODULES."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import billiard.pool
from pydantic import BaseModel

from tasks_app.context import TaskContext
from tasks_app.errors import RetryLater
from tasks_app.policies import Retry
from tasks_app.registry import handler
from tasks_app.services.handles import submit


class Sum(BaseModel):
    left: int
    right: int


class Total(BaseModel):
    total: int


class Place(BaseModel):
    path: str


@handler("test.sum")
def add(payload: Sum) -> Total:
    return Total(total=payload.left + payload.right)


@handler("test.later", max_retry=1)
def later(payload: Any, ctx: TaskContext) -> str:
    if ctx.attempt == 1:
        raise RetryLater(0.1, "not yet")
    return "now"


@handler("test.descend")
def descend(payload: Any) -> str:
    """Submit another of its own, for ever."""
    return str(submit("test.descend", {}, max_retry=0).id)


@handler("test.async")
async def slow_async(payload: dict[str, float], ctx: TaskContext) -> dict[str, Any]:
    task = asyncio.current_task()
    await asyncio.sleep(payload.get("seconds", 0.01))
    return {"is_task": task is not None, "loop": id(asyncio.get_running_loop())}


@handler("test.progress")
def progress(payload: dict[str, Any], ctx: TaskContext) -> None:
    for number in range(int(payload["reports"])):
        ctx.progress(number * 100 / payload["reports"], f"at {number}", current=number)
        if number == payload.get("hold_at"):
            Path(payload["path"]).touch()
            while Path(payload["path"]).exists():
                time.sleep(0.01)
    ctx.progress(100, "last words")


@handler("test.chatter")
def chatter(payload: dict[str, Any], ctx: TaskContext) -> dict[str, int]:
    end, number = time.monotonic() + float(payload["seconds"]), 0
    while time.monotonic() < end:
        ctx.progress(min(99.0, number / 1000), f"at {number}", current=number)
        number += 1
        time.sleep(0.0005)
    return {"reports": number}


@handler("test.logs")
def logs(payload: dict[str, Any], ctx: TaskContext) -> None:
    for number in range(int(payload["lines"])):
        ctx.log("line", number=number, filler="x" * int(payload.get("filler", 0)))
    ctx.log.warning("careful\x00", odd=object())
    logging.getLogger("someones.library").info("heard %s", "this")
    logging.getLogger("someones.library").debug("not heard")


@handler("test.once", retry=Retry.fixed(0.0))
def once(payload: Place, ctx: TaskContext) -> dict[str, Any]:
    def effect() -> dict[str, int]:
        with Path(payload.path).open("a") as file:
            file.write("effect\n")
        return {"attempt": ctx.attempt}

    value = ctx.once("effect", effect)
    if ctx.attempt == 1:
        raise RuntimeError("after the effect")
    return {"value": value, "attempt": ctx.attempt}


@handler("test.stubborn")
def stubborn(payload: Any) -> None:
    while True:
        try:
            time.sleep(1)
        except BaseException:  # noqa: BLE001 - what a bad handler does
            continue


class Member(BaseModel):
    """One of a bundle. `do`: `end`, `fail`, `exit`, `hold` until `gate` is there, `hang`."""

    ledger: str
    name: str
    do: str = "end"
    gate: str = ""


@handler("test.member", max_retry=1, retry=Retry.fixed(0.0))
def member(payload: Member, ctx: TaskContext) -> str:
    """Note in the ledger that it begins, do as told, note how it ends."""
    _note(payload, "begin")
    try:
        match payload.do:
            case "fail" if ctx.attempt == 1:
                _raise()
            case "exit":
                os._exit(3)
            case "hold":
                while not Path(payload.gate).exists():
                    ctx.sleep(0.02)
            case "hang":
                ctx.sleep(3600)
    except BaseException as error:
        _note(payload, type(error).__name__)
        raise
    _note(payload, "end")
    return payload.name


def _raise() -> None:
    raise RuntimeError("as told")


def _note(payload: Member, what: str) -> None:
    with Path(payload.ledger).open("a", encoding="utf-8") as ledger:
        ledger.write(f"{payload.name} {what}\n")


@handler("test.patience")
def patience() -> int:
    """Give how often the child looks, before it ends, whether its last message was read."""
    return int(billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT)


@handler("test.exit", max_retry=0)
def leave(payload: Place) -> None:
    Path(payload.path).touch()
    os._exit(3)


@handler("test.daemon")
def daemon(payload: Place, ctx: TaskContext) -> None:
    """Double-fork a daemon that leaves its session and ignores SIGTERM; then hold on."""
    code = (
        "import os,signal,sys,time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "while True: time.sleep(1)\n"
    )
    os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code, payload.path])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            time.sleep(1)
        except BaseException:  # noqa: BLE001 - what a bad handler does
            continue


@handler("test.result")
def odd_result(payload: dict[str, Any]) -> Any:
    match payload["kind"]:
        case "nan":
            return {"deep": [None, float("nan")]}
        case "nul":
            return "a\x00b"
        case "escaped":
            return "a\\u0000b"
        case "object":
            return object()
        case "integer":
            return [2**70]
        case _:
            return "x" * int(payload["bytes"])
