"""The test kit's sink keeps the promises of every sink."""

from __future__ import annotations

import uuid

import pytest

from tasks_app.context import AttemptInfo, LogLine, Progress
from tasks_app.testing import RecordingSink
from tests.sink_contract import SinkContract


class Recording:
    """Looks into recording sinks."""

    def __init__(self) -> None:
        self._sink = RecordingSink()

    def sink(self) -> RecordingSink:
        return self._sink

    def next_attempt(self) -> RecordingSink:
        self._sink = RecordingSink(once=self._sink.once_values)
        return self._sink

    def request_cancel(self) -> None:
        self._sink.request_cancel()

    def last_progress(self) -> Progress:
        return self._sink.reports[-1]

    def log_lines(self) -> list[LogLine]:
        return self._sink.logs

    def info(self) -> AttemptInfo:
        return AttemptInfo(task_id=uuid.uuid4(), type="demo.echo", queue="demo", tenant="default")


class TestRecordingSink(SinkContract):
    """The contract, run on `RecordingSink`."""

    @pytest.fixture
    def harness(self) -> Recording:
        return Recording()
