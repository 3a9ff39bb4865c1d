"""What every `Sink` promises to a handler, as tests that each implementation inherits.

A subclass gives the fixture `harness`; the recording sink of the test kit and the worker's sink to
the database run the same tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest

from tasks_app.context import AttemptInfo, LogLine, Progress, Sink, TaskContext
from tasks_app.errors import TaskCancelled, UnknownTaskType, ValidationFailed


class SinkHarness(Protocol):
    """How the contract looks behind a sink."""

    def sink(self) -> Sink:
        """Give the sink of the task's current attempt."""

    def next_attempt(self) -> Sink:
        """Give the sink of a further attempt of the same task."""

    def request_cancel(self) -> None:
        """Ask the task to stop; the sink's next look sees it."""

    def last_progress(self) -> Progress:
        """Give the newest progress that got through, after whatever the sink still holds."""

    def log_lines(self) -> list[LogLine]:
        """Give all log lines that got through, after whatever the sink still holds."""

    def info(self) -> AttemptInfo:
        """Give the facts of the current attempt."""


class SinkContract:
    """The promises; subclass as `Test...` with a fixture `harness`."""

    def test_the_last_progress_always_gets_through(self, harness: SinkHarness) -> None:
        sink = harness.sink()
        for percent in range(0, 101, 5):
            sink.progress(Progress(percent=percent, message=f"{percent} of 100"))
        last = harness.last_progress()
        assert (last.percent, last.message) == (100, "100 of 100")

    def test_detail_of_a_progress_gets_through(self, harness: SinkHarness) -> None:
        detail = {"current": 3, "total": 4, "unit": "pages"}
        harness.sink().progress(Progress(percent=75.0, message="", detail=detail))
        assert dict(harness.last_progress().detail) == detail

    def test_steps_get_through_with_their_states(self, harness: SinkHarness) -> None:
        context = TaskContext(harness.info(), harness.sink())
        with context.step("load", "Load data"):
            pass
        with pytest.raises(ValueError, match="no paper"), context.step("print"):
            raise ValueError("no paper")
        assert harness.last_progress().detail["steps"] == [
            {"key": "load", "label": "Load data", "state": "done"},
            {"key": "print", "label": "print", "state": "failed"},
        ]

    def test_log_lines_get_through_in_order_with_their_fields(self, harness: SinkHarness) -> None:
        sink = harness.sink()
        for number in range(20):
            sink.log(LogLine(level="info", message=f"line {number}", fields={"number": number}))
        lines = harness.log_lines()
        assert [line.message for line in lines] == [f"line {number}" for number in range(20)]
        assert [line.fields["number"] for line in lines] == list(range(20))
        assert {line.level for line in lines} == {"info"}

    @pytest.mark.parametrize("value", [object(), {1, 2}, b"\xff", float("nan"), "nul \x00 inside"])
    def test_odd_values_in_a_log_line_never_raise(self, harness: SinkHarness, value: Any) -> None:
        sink = harness.sink()
        sink.log(LogLine(level="warning", message="odd", fields={"value": value}))
        sink.log(LogLine(level="info", message="the next one"))
        assert [line.message for line in harness.log_lines()] == ["odd", "the next one"]

    def test_odd_text_in_a_progress_never_raises(self, harness: SinkHarness) -> None:
        sink = harness.sink()
        sink.progress(Progress(percent=10, message="nul \x00 inside"))
        sink.progress(Progress(percent=20, message="plain"))
        assert harness.last_progress().percent == 20

    def test_nobody_asked_to_stop(self, harness: SinkHarness) -> None:
        assert harness.sink().is_cancel_requested() is False

    def test_a_request_to_stop_is_seen_and_stays_seen(self, harness: SinkHarness) -> None:
        sink = harness.sink()
        harness.request_cancel()
        assert sink.is_cancel_requested() is True
        assert sink.is_cancel_requested() is True
        with pytest.raises(TaskCancelled):
            TaskContext(harness.info(), sink).check_cancelled()

    def test_once_runs_its_function_once_over_all_attempts(self, harness: SinkHarness) -> None:
        charge = _Counted(lambda: {"receipt": 7})
        assert harness.sink().once("charge", charge) == {"receipt": 7}
        assert harness.sink().once("charge", charge) == {"receipt": 7}
        assert harness.next_attempt().once("charge", charge) == {"receipt": 7}
        assert charge.calls == 1

    def test_once_keeps_none_as_a_value(self, harness: SinkHarness) -> None:
        send = _Counted(lambda: None)
        assert harness.sink().once("send", send) is None
        assert harness.next_attempt().once("send", send) is None
        assert send.calls == 1

    def test_keys_of_once_are_apart(self, harness: SinkHarness) -> None:
        sink = harness.sink()
        assert sink.once("first", lambda: 1) == 1
        assert sink.once("second", lambda: 2) == 2

    def test_a_function_that_fails_in_once_runs_again_later(self, harness: SinkHarness) -> None:
        def broken() -> int:
            raise ConnectionError("the bank is away")

        with pytest.raises(ConnectionError, match="the bank is away"):
            harness.sink().once("charge", broken)
        assert harness.next_attempt().once("charge", lambda: 5) == 5

    def test_once_refuses_a_value_that_is_not_json(self, harness: SinkHarness) -> None:
        with pytest.raises(TypeError):
            harness.sink().once("odd", object)

    def test_a_checkpoint_is_there_for_later_attempts(self, harness: SinkHarness) -> None:
        context = TaskContext(harness.info(), harness.sink())
        assert context.resume is None
        context.checkpoint({"row": 1})
        context.checkpoint({"row": 2})
        assert context.resume == {"row": 2}
        later = TaskContext(harness.info(), harness.next_attempt())
        assert later.resume == {"row": 2}
        later.checkpoint(None)
        assert later.resume is None

    @pytest.mark.parametrize(
        ("value", "error"),
        [("x" * 70_000, ValueError), ("\x00", ValueError), (object(), TypeError)],
    )
    def test_what_is_no_checkpoint_is_refused(
        self, harness: SinkHarness, value: Any, error: type[Exception]
    ) -> None:
        context = TaskContext(harness.info(), harness.sink())
        context.checkpoint(1)
        with pytest.raises(error):
            context.checkpoint(value)
        assert context.resume == 1

    def test_a_child_is_spawned_once_over_all_attempts(self, harness: SinkHarness) -> None:
        context = TaskContext(harness.info(), harness.sink())
        first = context.spawn("demo.echo", {"n": 1})
        second = context.spawn("demo.echo", {"n": 2})
        named = context.spawn("demo.echo", {"n": 3}, key="three")
        assert len({first.id, second.id, named.id}) == 3
        assert context.spawn("demo.echo", {"n": 4}, key="three").id == named.id
        sink = harness.next_attempt()
        later = TaskContext(harness.info(), sink)
        again = [later.spawn("demo.echo", {"n": 1}), later.spawn("demo.echo", {"n": 9})]
        assert [one.id for one in again] == [first.id, second.id]
        assert [one.is_existing for one in (first, *again)] == [False, True, True]

    def test_a_payload_that_does_not_fit_spawns_nothing(self, harness: SinkHarness) -> None:
        context = TaskContext(harness.info(), harness.sink())
        with pytest.raises(ValidationFailed):
            context.spawn("demo.slow", {"seconds": "soon"}, key="a")
        with pytest.raises(UnknownTaskType):
            context.spawn("demo.none", key="a")
        assert context.spawn("demo.slow", {"seconds": 0}, key="a").is_existing is False

    def test_a_timeout_grows_and_never_shrinks(self, harness: SinkHarness) -> None:
        context = TaskContext(harness.info(), harness.sink())
        context.extend_timeout(5000)
        assert (context.remaining_seconds or 0) > 4000
        before = context.deadline
        assert before is not None
        context.extend_timeout(1000)
        assert (context.remaining_seconds or 0) > 4000
        for wrong in (0, -1, 1e9):
            with pytest.raises(ValueError, match="seconds"):
                context.extend_timeout(wrong)


class _Counted:
    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        return self._function()
