"""The handlers that every installation has.

An example to look at, and small ones to try the platform with.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tasks_app.errors import TaskError
from tasks_app.public import Permanent, Retry, TaskContext, handler
from tasks_app.selectors.canaries import CANARY_TYPE


class _Payload(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ExamplePayload(_Payload):
    """How many steps, and how long each takes."""

    steps: int = Field(10, ge=1, le=1000, description="Number of steps.")
    delay: float = Field(0.5, ge=0, le=60, description="Seconds per step.")


class ExampleResult(BaseModel):
    """What the example did."""

    steps: int
    message: str


@handler("example")
def example(payload: ExamplePayload, ctx: TaskContext) -> ExampleResult:
    """Go through some steps, with progress and a message for each."""
    for number in range(1, payload.steps + 1):
        ctx.sleep(payload.delay)
        ctx.progress(
            100.0 * number / payload.steps,
            f"Step {number} of {payload.steps}",
            current=number,
            total=payload.steps,
        )
        ctx.log("step done", step=number)
    return ExampleResult(steps=payload.steps, message=f"{payload.steps} steps done")


@handler("demo.echo")
def echo(payload: Any) -> Any:
    """Give the payload back."""
    return payload


@handler(CANARY_TYPE, max_retry=0)
def canary() -> None:
    """Do nothing; the platform sends these to see that what goes through a queue comes back."""


class SlowPayload(_Payload):
    """How long to take."""

    seconds: float = Field(1.0, ge=0, le=86_400)


@handler("demo.slow")
def slow(payload: SlowPayload, ctx: TaskContext) -> dict[str, float]:
    """Sleep, and stop early when cancelled."""
    ctx.sleep(payload.seconds)
    return {"slept": payload.seconds}


class FlakyPayload(_Payload):
    """How often to fail first, and how long to wait before each retry."""

    failures: int = Field(2, ge=0, le=1000)


@handler("demo.flaky", retry=Retry.fixed(0.2), max_retry=5)
def flaky(payload: FlakyPayload, ctx: TaskContext) -> dict[str, int]:
    """Fail some times, then succeed."""
    if ctx.attempt <= payload.failures:
        raise TaskError("SERVICE_UNAVAILABLE", f"failure {ctx.attempt} of {payload.failures}")
    return {"attempts": ctx.attempt}


class FailPayload(_Payload):
    """The error to end with."""

    code: str = Field("INVALID_DATA", min_length=1, max_length=64)
    message: str = Field("failed as asked", max_length=2000)
    permanent: bool = True


@handler("demo.fail")
def fail(payload: FailPayload) -> None:
    """Fail with the code asked for: for good, or as the retry policy says."""
    kind = Permanent if payload.permanent else TaskError
    raise kind(payload.code, payload.message)
