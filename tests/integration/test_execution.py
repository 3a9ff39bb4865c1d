"""Attempts in a real Celery worker: what a handler does is what the row says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.feeding import submit, wait_state
from tests.processes import Process, running_worker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    with django_db_blocker.unblock(), running_worker() as process:
        yield process


def test_a_typed_payload_becomes_a_typed_result(worker: Process) -> None:
    row = wait_state(submit("test.sum", {"left": 2, "right": 3}))
    assert (row.state, row.result, row.progress) == ("success", {"total": 5}, 100)
