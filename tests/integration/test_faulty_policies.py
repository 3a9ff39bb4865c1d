"""Retry policies of a handler's author that raise, block or give no number, in a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.feeding import submit, task, wait_state
from tests.processes import Process, running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    modules = "tests.handlers,tests.policy_handlers"
    with django_db_blocker.unblock(), running_worker(TASKMILL_HANDLER_MODULES=modules) as process:
        yield process


@pytest.mark.parametrize("policy", ["raises", "nan", "text"])
def test_the_default_decides_and_the_handlers_error_is_kept(worker: Process, policy: str) -> None:
    row = wait_state(submit(f"test.policy_{policy}"), "retrying")
    assert (row.attempt, row.error["type"]) == (1, "LookupError")
    waits = (row.run_at - row.updated_at).total_seconds()
    assert waits == pytest.approx(5.0, abs=0.5), "what the default says of an unknown error"
    assert "the retry policy failed, the default decides" in worker.output()


@pytest.mark.parametrize("policy", ["raises", "exits", "blocks"])
def test_one_that_fails_after_a_kill_costs_no_neighbour_its_lease(
    worker: Process, policy: str
) -> None:
    neighbour = submit("demo.slow", {"seconds": 7}, max_retry=0)
    wait_state(neighbour, "running")
    killed = submit(f"test.policy_{policy}", {"hold": True}, process_timeout=1)
    row = wait_state(killed, "retrying")
    assert (row.attempt, row.error["code"]) == (1, "TIMEOUT")
    wait_for(lambda: task(neighbour).state not in {"running", "cancelling"}, seconds=30)
    assert (task(neighbour).state, task(neighbour).attempt) == ("success", 1)


def test_a_policy_that_gives_up_is_heard_after_a_kill(worker: Process) -> None:
    row = wait_state(submit("test.policy_ends", {"hold": True}, process_timeout=1))
    assert (row.state, row.attempt) == ("timeout", 1)
