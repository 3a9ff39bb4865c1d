"""The context: what it clamps, what stops a handler, what it hands on."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tasks_app.clock import monotonic
from tasks_app.context import (
    AttemptInfo,
    LogLine,
    Progress,
    TaskContext,
    current_task,
    running_in,
)
from tasks_app.errors import TaskCancelled


class Memory:
    """A sink that keeps what it is given; asked to stop after `cancel_after` questions."""

    def __init__(self, cancel_after: int | None = None) -> None:
        self.reports: list[Progress] = []
        self.lines: list[LogLine] = []
        self.stored: dict[str, Any] = {}
        self.questions = 0
        self.cancel_after = cancel_after

    def progress(self, progress: Progress) -> None:
        self.reports.append(progress)

    def log(self, line: LogLine) -> None:
        self.lines.append(line)

    def is_cancel_requested(self) -> bool:
        self.questions += 1
        return self.cancel_after is not None and self.questions > self.cancel_after

    def once(self, key: str, function: Callable[[], Any]) -> Any:
        if key not in self.stored:
            self.stored[key] = function()
        return self.stored[key]


def context(sink: Memory, **facts: Any) -> TaskContext:
    info = AttemptInfo(
        task_id=uuid.UUID(int=7), type="a.b", queue="default", tenant="acme", **facts
    )
    return TaskContext(info, sink)


@pytest.mark.parametrize(
    ("percent", "kept"), [(-5, 0), (0, 0), (42.5, 42.5), (100, 100), (900, 100)]
)
def test_progress_is_kept_between_nought_and_a_hundred(percent: float, kept: float) -> None:
    sink = Memory()
    context(sink).progress(percent, "m" * 900, current=1, total=2, unit="rows")
    [report] = sink.reports
    assert (report.percent, len(report.message)) == (kept, 500)
    assert report.detail == {"current": 1, "total": 2, "unit": "rows"}


def test_track_yields_every_item_and_ends_at_a_hundred() -> None:
    sink = Memory()
    assert list(context(sink).track("abcd", message="{current} of {total}")) == list("abcd")
    assert [report.percent for report in sink.reports] == [25, 50, 75, 100]
    assert sink.reports[-1].message == "4 of 4"


def test_track_without_a_length_counts_but_claims_no_percentage() -> None:
    sink = Memory()
    assert list(context(sink).track(iter("ab"))) == ["a", "b"]
    assert [(report.percent, report.detail["current"]) for report in sink.reports] == [
        (0, 1),
        (0, 2),
    ]


def test_track_stops_before_the_next_item_once_the_task_is_asked_to_stop() -> None:
    items = context(Memory(cancel_after=2)).track("abcd")
    assert (next(items), next(items)) == ("a", "b")
    with pytest.raises(TaskCancelled):
        next(items)


def test_a_step_is_running_then_done_or_failed() -> None:
    sink = Memory()
    ctx = context(sink)
    with ctx.step("load", "Loading"):
        ctx.progress(30)
    with pytest.raises(ValueError, match="broken"), ctx.step("save"):
        raise ValueError("broken")
    states = [[step["state"] for step in report.detail["steps"]] for report in sink.reports]
    assert states == [
        ["running"],
        ["running"],
        ["done"],
        ["done", "running"],
        ["done", "failed"],
    ]
    assert sink.reports[-1].percent == 30


def test_a_cancel_passes_an_except_exception_of_the_handler() -> None:
    def catches_everything() -> None:
        try:
            context(Memory(cancel_after=0)).check_cancelled()
        except Exception:  # noqa: BLE001 - the case: a handler that catches everything
            pytest.fail("swallowed")

    with pytest.raises(TaskCancelled):
        catches_everything()


def test_sleep_ends_early_when_the_task_is_asked_to_stop() -> None:
    start = monotonic()
    with pytest.raises(TaskCancelled):
        context(Memory(cancel_after=1)).sleep(60)
    assert monotonic() - start < 10


def test_once_runs_its_function_once_and_hands_its_value_out_again() -> None:
    sink = Memory()
    calls: list[int] = []
    for _ in range(2):
        assert context(sink).once("charge", lambda: calls.append(1) or "paid") == "paid"  # type: ignore[func-returns-value]  # append gives None
    assert calls == [1]


def test_the_idempotency_key_is_the_same_for_every_attempt() -> None:
    keys = {context(Memory(), attempt=n, epoch=n).idempotency_key("mail") for n in (1, 2)}
    assert keys == {f"{uuid.UUID(int=7)}:mail"}
    assert context(Memory()).idempotency_key() == str(uuid.UUID(int=7))


def test_the_facts_of_the_attempt_are_at_hand() -> None:
    ctx = context(Memory(), attempt=2, epoch=5, attempts_left=0, deadline_monotonic=monotonic() - 1)
    assert (ctx.attempt, ctx.epoch, ctx.is_last_attempt, ctx.tenant) == (2, 5, True, "acme")
    assert ctx.remaining_seconds == 0
    assert context(Memory()).remaining_seconds is None
    assert not context(Memory(), attempts_left=1).is_last_attempt


def test_log_lines_carry_level_and_fields() -> None:
    sink = Memory()
    log = context(sink).log
    log("plain", n=1)
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)("text")
    assert [line.level for line in sink.lines] == ["info", "debug", "info", "warning", "error"]
    assert sink.lines[0].fields == {"n": 1}


def test_the_current_task_is_known_inside_and_forgotten_outside() -> None:
    ctx = context(Memory())
    with running_in(ctx):
        assert current_task() is ctx
    assert current_task() is None
