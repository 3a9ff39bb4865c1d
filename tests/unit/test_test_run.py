"""`handler.test_run`: what a handler author sees of one attempt."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tasks_app import registry
from tasks_app.context import TaskContext, current_task
from tasks_app.errors import (
    Permanent,
    ProcessTimeout,
    RetryLater,
    TaskCancelled,
    ValidationFailed,
)
from tasks_app.policies import Retry
from tasks_app.registry import Handler, handler


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    order: int = Field(ge=1)
    lines: list[str] = []
    due: date | None = None


class Receipt(BaseModel):
    order: int
    due: date | None = None


Declare = Callable[..., Handler]


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declare a handler that is gone after the test."""
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))

    def build(function: Callable[..., Any], **options: Any) -> Handler:
        return handler("test.subject", **options)(function)

    return build


def test_a_run_gives_the_value_and_the_json_that_clients_read(declare: Declare) -> None:
    def ship(payload: Order, ctx: TaskContext) -> Receipt:
        return Receipt(order=payload.order, due=payload.due)

    run = declare(ship).test_run({"order": 3, "due": "2027-01-31"})
    assert run.state == "success"
    assert run.value == Receipt(order=3, due=date(2027, 1, 31))
    assert run.result == {"order": 3, "due": "2027-01-31"}
    assert run.error is None
    assert run.retry_in is None


def test_a_model_travels_through_json_like_a_submission(declare: Declare) -> None:
    def ship(payload: Order) -> str:
        return str(payload.due)

    order = Order(order=3, due=date(2027, 1, 31))
    assert declare(ship).test_run(order).result == "2027-01-31"


def test_a_handler_without_payload_or_context_runs(declare: Declare) -> None:
    def beat() -> None:
        return None

    run = declare(beat).test_run()
    assert (run.state, run.value, run.result) == ("success", None, None)


def test_a_missing_payload_is_an_empty_one(declare: Declare) -> None:
    def ship(payload: Order) -> None: ...

    with pytest.raises(ValidationFailed) as caught:
        declare(ship).test_run()
    assert caught.value.errors == [
        {"pointer": "/payload/order", "code": "missing", "detail": "Field required"}
    ]


def test_a_payload_that_a_submission_refuses_is_refused(declare: Declare) -> None:
    def ship(payload: Order) -> None: ...

    subject = declare(ship)
    for wrong in ({"order": 0}, {"order": 1, "colour": "red"}, [], {"order": 1, "lines": ["\x00"]}):
        with pytest.raises(ValidationFailed):
            subject.test_run(wrong)


def test_an_async_handler_runs_to_its_end(declare: Declare) -> None:
    async def ship(payload: Order, ctx: TaskContext) -> int:
        await asyncio.sleep(0)
        assert current_task() is ctx
        return payload.order

    assert declare(ship).test_run({"order": 3}).value == 3


def test_an_async_handler_runs_inside_a_test_that_is_async_itself(declare: Declare) -> None:
    async def ship(ctx: TaskContext) -> str:
        await asyncio.sleep(0)
        return ctx.tenant

    subject = declare(ship)

    async def test_itself() -> Any:
        return subject.test_run(tenant="acme").value

    assert asyncio.run(test_itself()) == "acme"


def test_the_context_carries_what_the_test_gave(declare: Declare) -> None:
    def ship(ctx: TaskContext) -> dict[str, Any]:
        return {
            "attempt": ctx.attempt,
            "is_last": ctx.is_last_attempt,
            "metadata": dict(ctx.metadata),
            "tags": list(ctx.tags),
            "tenant": ctx.tenant,
            "deadline": ctx.deadline,
        }

    subject = declare(ship, max_retry=1)
    first = subject.test_run().value
    assert first == {
        "attempt": 1,
        "is_last": False,
        "metadata": {},
        "tags": [],
        "tenant": "default",
        "deadline": None,
    }
    second = subject.test_run(attempt=2, metadata={"a": 1}, tags=["vip"], tenant="acme").value
    assert second["attempt"] == 2
    assert second["is_last"] is True
    assert (second["metadata"], second["tags"], second["tenant"]) == ({"a": 1}, ["vip"], "acme")


def test_an_attempt_beyond_the_last_is_refused(declare: Declare) -> None:
    subject = declare(lambda: None, max_retry=1)
    with pytest.raises(ValueError, match=r"attempt must be 1 to 2 \(max_retry \+ 1\), not 3"):
        subject.test_run(attempt=3)
    with pytest.raises(ValueError, match="from 1"):
        subject.test_run(cancel_after=0)


def test_an_exception_is_retried_while_attempts_remain(declare: Declare) -> None:
    def ship() -> None:
        raise KeyError("paper")

    subject = declare(ship, retry=Retry.exponential(2.0, max_delay=60.0), max_retry=2)
    runs = [subject.test_run(attempt=attempt) for attempt in (1, 2, 3)]
    assert [run.state for run in runs] == ["retrying", "retrying", "failed"]
    assert [run.retry_in for run in runs] == [2.0, 4.0, None]
    assert {run.error.code for run in runs} == {"HANDLER_ERROR"}
    assert "KeyError: 'paper'" in runs[0].error.traceback


def test_the_platform_default_of_attempts_holds_where_the_type_says_none(declare: Declare) -> None:
    def ship() -> None:
        raise ConnectionError

    subject = declare(ship)
    assert subject.test_run(attempt=3).state == "retrying"
    assert subject.test_run(attempt=4).state == "failed"
    assert subject.test_run(attempt=4, max_retry=9).state == "retrying"


def test_a_permanent_error_fails_at_once(declare: Declare) -> None:
    def ship() -> None:
        raise Permanent("OUT_OF_STOCK", "Nothing left")

    run = declare(ship).test_run()
    assert (run.state, run.error.code, run.error.message) == (
        "failed",
        "OUT_OF_STOCK",
        "Nothing left",
    )


def test_retry_later_says_when(declare: Declare) -> None:
    def ship() -> None:
        raise RetryLater(90)

    assert declare(ship).test_run().retry_in == 90.0


@pytest.mark.parametrize(("cancel_after", "done"), [(1, []), (3, [1, 2])])
def test_a_cancel_stops_a_tracked_loop_between_items(
    declare: Declare, cancel_after: int, done: list[int]
) -> None:
    seen: list[int] = []

    def ship(ctx: TaskContext) -> None:
        seen.extend(item for item in ctx.track([1, 2, 3, 4]))

    run = declare(ship).test_run(cancel_after=cancel_after)
    assert run.state == "cancelled"
    assert seen == done


def test_a_handler_may_finish_although_it_was_asked_to_stop(declare: Declare) -> None:
    def ship(ctx: TaskContext) -> str:
        return "partly" if ctx.is_cancelled else "all"

    subject = declare(ship)
    assert subject.test_run(cancel_after=1).value == "partly"
    assert subject.test_run().value == "all"


def test_a_cancelled_task_is_not_retried(declare: Declare) -> None:
    def ship(ctx: TaskContext) -> None:
        try:
            ctx.check_cancelled()
        finally:
            raise OSError("the clean-up failed")

    run = declare(ship).test_run(cancel_after=1)
    assert (run.state, run.retry_in) == ("cancelled", None)


def test_a_handler_that_exits_has_failed(declare: Declare) -> None:
    def ship() -> None:
        raise SystemExit(3)

    run = declare(ship).test_run()
    assert (run.state, run.error.type) == ("retrying", "SystemExit")


def test_a_cancel_that_nobody_asked_for_is_an_error_of_the_handler(declare: Declare) -> None:
    def ship() -> None:
        raise TaskCancelled

    assert declare(ship).test_run().state == "retrying"


def test_a_deadline_strikes_at_the_next_look_at_the_context(declare: Declare) -> None:
    cleaned: list[str] = []

    def ship(ctx: TaskContext) -> None:
        assert ctx.remaining_seconds == 0.0
        try:
            ctx.check_cancelled()
        except ProcessTimeout:
            cleaned.append("up")
            raise

    subject = declare(ship, max_retry=1)
    first, last = (
        subject.test_run(deadline_seconds=0),
        subject.test_run(attempt=2, deadline_seconds=0),
    )
    assert (first.state, first.retry_in, first.error.code) == ("retrying", 1.0, "TIMEOUT")
    assert last.state == "timeout"
    assert cleaned == ["up", "up"]


def test_a_handler_that_returns_after_its_deadline_is_late(declare: Declare) -> None:
    def ship(ctx: TaskContext) -> None:
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass

    assert declare(ship, max_retry=0).test_run(deadline_seconds=0.01).state == "timeout"
    assert declare(ship, max_retry=0).test_run(deadline_seconds=60).state == "success"


def test_progress_steps_and_logs_are_kept_in_order(declare: Declare) -> None:
    def ship(payload: Order, ctx: TaskContext) -> None:
        with ctx.step("load", "Load data"):
            ctx.log("loaded", lines=2)
        for _ in ctx.track(payload.lines, message="Line {current} of {total}"):
            ctx.log.warning("slow line")
        with ctx.step("send"):
            ctx.progress(100, "Sent")

    run = declare(ship).test_run({"order": 1, "lines": ["a", "b"]})
    assert run.steps == ["load", "send"]
    assert [report.message for report in run.progress if "Line" in report.message][:2] == [
        "Line 1 of 2",
        "Line 2 of 2",
    ]
    assert run.progress[-1].percent == 100
    assert run.logs.has("loaded")
    assert run.logs[0].fields == {"lines": 2}
    assert run.logs.has("slow", level="warning")
    assert not run.logs.has("slow", level="info")
    assert not run.logs.has("sent")


def test_what_the_standard_library_logs_is_kept_too(declare: Declare) -> None:
    def ship() -> None:
        logging.getLogger("someones.library").warning("heard %s", "this")

    run = declare(ship).test_run()
    assert run.logs[0].message == "heard this"
    assert run.logs[0].fields == {"logger": "someones.library"}
    assert not any(type(one).__name__ == "LogCapture" for one in logging.getLogger().handlers)


def test_once_is_skipped_where_an_earlier_attempt_stored_its_value(declare: Declare) -> None:
    charges: list[int] = []

    def ship(ctx: TaskContext) -> Any:
        return ctx.once("charge", lambda: charges.append(1) or {"receipt": 7})

    subject = declare(ship)
    first = subject.test_run()
    assert first.once_values == {"charge": {"receipt": 7}}
    again = subject.test_run(attempt=2, once=first.once_values)
    assert again.value == {"receipt": 7}
    assert charges == [1]


@pytest.mark.parametrize("odd", [object(), {1: object()}, "nul \x00 inside"])
def test_a_result_that_cannot_be_stored_is_an_error(declare: Declare, odd: Any) -> None:
    run = declare(lambda: odd).test_run()
    assert (run.state, run.result, run.value) == ("error", None, odd)
    assert run.error.code == "RESULT_NOT_STORABLE"


def test_a_result_above_the_limit_is_an_error(declare: Declare) -> None:
    run = declare(lambda: "x" * 1_048_576).test_run()
    assert run.state == "error"
    assert "limit is 1048576" in run.error.message


def test_a_failing_assertion_of_the_test_itself_is_not_swallowed(declare: Declare) -> None:
    def ship() -> None:
        pytest.fail("seen")

    with pytest.raises(pytest.fail.Exception, match="seen"):
        declare(ship).test_run()


def test_no_context_is_left_behind(declare: Declare) -> None:
    declare(lambda: logging.getLogger(__name__).debug("here")).test_run()
    assert current_task() is None


def test_calling_a_handler_calls_its_function(declare: Declare) -> None:
    def ship(payload: Order) -> int:
        return payload.order

    assert declare(ship)(Order(order=4)) == 4
