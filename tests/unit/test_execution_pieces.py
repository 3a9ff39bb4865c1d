"""The pure pieces of the worker: slots, results, log buffers, stopping what is left of a tree."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import billiard.pool
import orjson
import pytest

from tasks_app.context import LogLine
from tasks_app.errors import ProcessTimeout, TaskCancelled
from tasks_app.execution import kill
from tasks_app.execution.child import LAST_MESSAGES_TRIES
from tasks_app.execution.interrupts import Interrupts
from tasks_app.execution.logbuffer import LogBuffer
from tasks_app.execution.outcomes import Succeeded, Unstorable, error_json, storable, store_result
from tasks_app.execution.slots import Interrupt, SlotTable
from tasks_app.policies import ErrorInfo
from tasks_app.registry import Handler, Options

TASK = uuid.UUID("0192f0c1-7f00-7000-8000-00000000abcd")


def echo(payload: Any) -> Any:
    return payload


HANDLER = Handler("unit.echo", echo, Options())


def test_a_slot_shows_what_was_published_and_nothing_after_the_end() -> None:
    table = SlotTable(4)
    run = table.publish(2, 77, (TASK, 5, 1.5, 61.5))
    (running,) = table.running()
    assert (running.index, running.pid, running.run, running.epoch) == (2, 77, run, 5)
    assert (running.task_id, running.claimed_at, running.deadline) == (TASK, 1.5, 61.5)
    table.clear(2, 77)
    assert table.running() == []


def test_a_child_killed_while_it_writes_leaves_nothing_to_read() -> None:
    table = SlotTable(1)
    table.publish(0, 77, (TASK, 5, 0.0, 0.0))
    table._words[16] |= 1
    assert table.read(0) is None
    table.clear(0, 78)
    table.publish(0, 78, (TASK, 6, 0.0, 0.0))
    assert table.running()[0].epoch == 6


def test_an_order_for_one_run_never_hits_the_next() -> None:
    table = SlotTable(1)
    run = table.publish(0, 77, (TASK, 5, 0.0, 0.0))
    first = table.running()[0]
    table.order_cancel(first)
    table.order_interrupt(first, Interrupt.TIMEOUT)
    table.take(first)
    assert table.is_cancelled(0, run)
    assert table.interrupt_for(0, run) is Interrupt.TIMEOUT
    following = table.publish(0, 77, (TASK, 6, 0.0, 0.0))
    assert not table.is_cancelled(0, following)
    assert table.interrupt_for(0, following) is None
    assert not table.is_taken(table.running()[0])
    assert not table.is_current(first)


def test_an_interrupt_waits_for_the_end_of_a_shield_and_comes_once() -> None:
    table = SlotTable(1)
    interrupts = Interrupts(table, 0)
    run = table.publish(0, os.getpid(), (TASK, 5, 0.0, 0.0))
    interrupts.arm(run)
    table.order_interrupt(table.running()[0], Interrupt.CANCEL)
    steps = []

    def guarded() -> None:
        with interrupts.shielded():
            interrupts._on_signal(0, None)
            steps.append("statement done")

    with pytest.raises(TaskCancelled):
        guarded()
    assert steps == ["statement done"]
    interrupts._on_signal(0, None)


def test_an_interrupt_that_came_before_the_handler_started_is_raised_at_its_start() -> None:
    table = SlotTable(1)
    interrupts = Interrupts(table, 0)
    run = table.publish(0, os.getpid(), (TASK, 5, 0.0, 0.0))
    table.order_interrupt(table.running()[0], Interrupt.TIMEOUT)
    interrupts._on_signal(0, None)
    with pytest.raises(ProcessTimeout):
        interrupts.arm(run)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (float("inf"), "RESULT_NOT_STORABLE"),
        ([{"a": (1, float("nan"))}], "RESULT_NOT_STORABLE"),
        ("a\x00", "RESULT_NOT_STORABLE"),
        ({"a\x00": 1}, "RESULT_NOT_STORABLE"),
        ("\\\x00", "RESULT_NOT_STORABLE"),
        ("\ud800", "RESULT_NOT_STORABLE"),
        ({1, 2}, "RESULT_NOT_STORABLE"),
        (2**70, "RESULT_NOT_STORABLE"),
        ("x" * 100, "RESULT_TOO_LARGE"),
        (1e100, "RESULT_TOO_LARGE"),
    ],
)
def test_what_json_or_the_store_cannot_hold_is_refused(value: Any, code: str) -> None:
    outcome = store_result(HANDLER, value, max_bytes=100)
    assert isinstance(outcome, Unstorable)
    assert outcome.error.code == code


@pytest.mark.parametrize("value", [None, [None], "\\u0000", "x" * 98, {"a": 1.5}, 2**53])
def test_what_json_can_hold_is_stored_as_it_is(value: Any) -> None:
    outcome = store_result(HANDLER, value, max_bytes=100)
    assert isinstance(outcome, Succeeded)
    assert orjson.loads(outcome.result) == value


def test_an_error_message_with_nul_and_half_characters_is_made_storable() -> None:
    error = ErrorInfo(code="X", type="T", message="a\x00b\ud800")
    assert orjson.loads(error_json(error, attempt=1, is_retryable=False))["message"] == "a\ufffdb?"
    assert storable("plain") == "plain"


def lines(buffer: LogBuffer) -> list[list[dict[str, Any]]]:
    chunks = []
    while (chunk := buffer.next_chunk()) is not None:
        chunks.append(orjson.loads(chunk.lines))
    return chunks


def test_log_lines_carry_the_databases_time() -> None:
    buffer = LogBuffer(datetime(2026, 1, 1, tzinfo=UTC), 100.0, max_bytes=10_000)
    buffer.add(101.5, LogLine(level="info", message="hello", fields={"a": 1}))
    ((line,),) = lines(buffer)
    assert line == {
        "at": "2026-01-01T00:00:01.500000+00:00",
        "level": "info",
        "message": "hello",
        "fields": {"a": 1},
    }
    assert not buffer


def test_the_newest_lines_survive_the_cap_and_a_marker_counts_the_rest() -> None:
    buffer = LogBuffer(datetime(2026, 1, 1, tzinfo=UTC), 0.0, max_bytes=4_000)
    for number in range(1000):
        buffer.add(0.0, LogLine(level="info", message=f"line {number}"))
    kept = [line for chunk in lines(buffer) for line in chunk]
    assert kept[0]["level"] == "warning"
    dropped = kept[0]["fields"]["dropped_bytes"]
    assert kept[0]["message"] == f"{dropped} bytes of older log lines were dropped"
    assert kept[-1]["message"] == "line 999"
    assert dropped > 50_000


def test_chunks_stored_before_are_dropped_when_newer_ones_need_the_room() -> None:
    buffer = LogBuffer(datetime(2026, 1, 1, tzinfo=UTC), 0.0, max_bytes=2_000)
    live: dict[int, int] = {}
    for number in range(200):
        buffer.add(0.0, LogLine(level="info", message=f"line {number}"))
        while (chunk := buffer.next_chunk()) is not None:
            live = {n: size for n, size in live.items() if n >= chunk.drop_before}
            live[chunk.number] = chunk.size_bytes
            assert sum(live.values()) <= 2_000


def test_log_lines_are_as_large_as_the_store_prints_their_numbers() -> None:
    buffer = LogBuffer(datetime(2026, 1, 1, tzinfo=UTC), 0.0, max_bytes=10_000)
    for _ in range(100):
        buffer.add(0.0, LogLine(level="info", message="x", fields={"number": 1e300}))
    assert 20 < sum(len(chunk) for chunk in lines(buffer)) < 40


def test_everything_below_a_process_is_killed_and_reaped() -> None:
    code = "import subprocess as s; s.Popen(['sleep','60']); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (below,) = kill.descendants(process.pid)
        assert kill.is_alive(below)
        assert kill.kill_descendants(process.pid)
        assert not kill.is_alive(below)
        assert kill.is_alive(process.pid)
        process.kill()
    assert not kill.is_alive(process.pid)


class NeverRead:
    """The count of messages that a main process has read: none, and how often it was asked for."""

    looks = 0

    @property
    def value(self) -> int:
        self.looks += 1
        return 0


def test_an_ending_child_of_billiard_looks_as_often_as_the_number_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without it a worker that stops waits half a minute for a message that nobody reads."""
    pool = billiard.pool
    assert pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL == 0.1
    assert pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT > LAST_MESSAGES_TRIES
    monkeypatch.setattr(pool, "GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL", 0.0)
    monkeypatch.setattr(pool, "GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT", LAST_MESSAGES_TRIES)
    counter = NeverRead()
    ending = SimpleNamespace(on_ready_counter=counter)
    assert not pool.Worker._ensure_messages_consumed(ending, completed=1)
    assert counter.looks == LAST_MESSAGES_TRIES
