"""Handlers whose retry policies are faulty code of a user's; loaded by the tests of policies."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel

from tasks_app.policies import ErrorInfo, Retry
from tasks_app.registry import handler


class Held(BaseModel):
    hold: bool = False
    """Never end, whatever interrupts it."""


def _fail(payload: Held) -> None:
    if not payload.hold:
        raise LookupError("the handler's own error")
    while True:
        try:
            time.sleep(1)
        except BaseException:  # noqa: BLE001 - what a bad handler does
            continue


def _raise(failed_attempts: int, error: ErrorInfo) -> float:
    raise ZeroDivisionError("the policy's error")


def _exit(failed_attempts: int, error: ErrorInfo) -> float:
    raise SystemExit(1)


def _block(failed_attempts: int, error: ErrorInfo) -> float:
    time.sleep(60)
    return 0.0


@handler("test.policy_raises", retry=Retry.custom(_raise))
def policy_raises(payload: Held) -> None:
    _fail(payload)


@handler("test.policy_nan", retry=Retry.custom(lambda failed_attempts, error: float("nan")))
def policy_nan(payload: Held) -> None:
    _fail(payload)


@handler("test.policy_text", retry=Retry.custom(lambda failed_attempts, error: _text()))
def policy_text(payload: Held) -> None:
    _fail(payload)


def _text() -> Any:
    return "soon"


@handler("test.policy_exits", retry=Retry.custom(_exit))
def policy_exits(payload: Held) -> None:
    _fail(payload)


@handler("test.policy_blocks", retry=Retry.custom(_block))
def policy_blocks(payload: Held) -> None:
    _fail(payload)


@handler("test.policy_ends", retry=Retry.custom(lambda failed_attempts, error: None))
def policy_ends(payload: Held) -> None:
    _fail(payload)
