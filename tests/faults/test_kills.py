"""kill -9 of every part, one after the other and all at once, with tasks in every state."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.environment import RUN_DIRECTORY
from tests.faults.crashes import crash_the_broker, crash_the_database
from tests.faults.platform import FINISHED, Client, Platform
from tests.processes import wait_for


@pytest.fixture(scope="module", params=["valkey", "rabbitmq"])
def platform(request: pytest.FixtureRequest) -> Iterator[Platform]:
    broker: Any = request.getfixturevalue("rabbitmq") if request.param == "rabbitmq" else None
    directory = RUN_DIRECTORY / f"faults-{request.param}"
    directory.mkdir()
    directory.chmod(0o755)
    found = Platform(directory, broker=broker)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def in_every_state(platform: Platform) -> dict[str, uuid.UUID]:
    """Submit tasks until one is in each state that waits or runs."""
    key = {"concurrency_key": f"k-{uuid.uuid4().hex[:6]}", "max_concurrency": 1}
    tasks = {
        "running": platform.submit(seconds=2.0),
        "keyed": platform.submit(seconds=1.0, **key),
        "blocked": platform.submit(seconds=0.1, **key),
        "scheduled": platform.submit(delay=1.5),
        "urgent": platform.submit(seconds=1.0, priority=9),
        "queued": platform.submit(seconds=0.1),
    }
    platform.wait_for_state(tasks["running"], "running", *FINISHED)
    return tasks


def heal_and_check(platform: Platform, fault: str) -> None:
    recovery = platform.drain()
    print(f"{fault}: everything accepted was finished {recovery:.1f} s after healing")
    platform.check()


def kill_a_child(platform: Platform) -> None:
    running = platform.submit(seconds=3.0)
    platform.wait_for_state(running, "running")
    pids = [
        int(line.split()[3])
        for line in platform.ledger.read_text().splitlines()
        if line.startswith(f"start {running}")
    ]
    os.kill(pids[-1], signal.SIGKILL)
    platform.wait_for_state(running, "success", seconds=20)
    assert platform.query("SELECT rescues FROM taskmill_task WHERE id = %s", running) == [(1,)]


def kill_a_worker(platform: Platform) -> None:
    platform.kill_part("worker-1")
    platform.start_part("worker-1")


def kill_the_leading_engine(platform: Platform) -> None:
    holder = platform.query("SELECT holder FROM taskmill_leader WHERE loop = 'dispatch'")[0][0]
    name = next(
        (name for name, part in platform.parts.items() if f":{part.pid}" in holder), "engine-1"
    )
    platform.kill_part(name)
    platform.start_part(name)


def kill_the_web(platform: Platform) -> None:
    platform.kill_part("web")
    platform.start_part("web")


def kill_everything(platform: Platform) -> None:
    for name in list(platform.parts):
        platform.kill_part(name)
    crash_the_broker(platform)
    crash_the_database(platform)
    for name in list(platform.parts):
        platform.start_part(name)


FAULTS: list[Callable[[Platform], None]] = [
    kill_a_child,
    kill_a_worker,
    kill_the_leading_engine,
    kill_the_web,
    crash_the_broker,
    crash_the_database,
    kill_everything,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_was_accepted_ends_exactly_once_after(
    platform: Platform, fault: Callable[[Platform], None]
) -> None:
    with Client(platform):
        in_every_state(platform)
        fault(platform)
        platform.wait_until_ready()
    heal_and_check(platform, fault.__name__)


def test_a_frozen_worker_that_wakes_up_writes_nothing(platform: Platform) -> None:
    frozen = platform.parts["worker-1"]
    tasks = [platform.submit(seconds=1.5) for _ in range(4)]
    for task in tasks:
        platform.wait_for_state(task, "running")
    group = [frozen.process, *frozen.process.children(recursive=True)]
    children = {str(one.pid) for one in group}
    for process in group:
        process.suspend()
    try:
        on_frozen = [
            uuid.UUID(line.split()[1])
            for line in platform.ledger.read_text().splitlines()
            if line.split()[3] in children and uuid.UUID(line.split()[1]) in tasks
        ]
        assert on_frozen
        for task in on_frozen:
            platform.wait_for_state(task, "success", seconds=40)
    finally:
        for process in group:
            process.resume()
    refused = "SELECT count(*) FROM taskmill_stale_result WHERE task_id = ANY(%s)"
    log = frozen.log

    def is_refused_or_killed() -> bool:
        said = log.read_text(errors="replace")
        return platform.query(refused, on_frozen)[0][0] > 0 or "its lease is gone" in said

    wait_for(is_refused_or_killed, seconds=20, reason=frozen.output()[-2000:])
    heal_and_check(platform, "frozen worker")


def test_a_broker_that_is_down_delays_and_loses_nothing(platform: Platform) -> None:
    if platform.rabbitmq is not None:
        platform.rabbitmq.stop_app()
    else:
        platform.valkey.stop()
    waiting = [platform.submit() for _ in range(5)]
    assert set(platform.states(waiting).values()) <= {"queued", "dispatched"}
    if platform.rabbitmq is not None:
        platform.rabbitmq.start_app()
    else:
        platform.valkey.start()
    for task in waiting:
        platform.wait_for_state(task, "success", seconds=40)
    heal_and_check(platform, "broker down")


def test_timeouts_fire_without_workers_and_against_a_stubborn_handler(platform: Platform) -> None:
    stubborn = platform.submit("fault.stubborn")
    assert platform.wait_for_state(stubborn, *FINISHED, seconds=30) == "timeout"
    for name in ("worker-1", "worker-2"):
        platform.parts[name].kill()
    late = platform.submit(queue_timeout=1)
    assert platform.wait_for_state(late, *FINISHED, seconds=20) == "timeout"
    [(code,)] = platform.query("SELECT error ->> 'code' FROM taskmill_task WHERE id = %s", late)
    assert code == "QUEUE_TIMEOUT"
    for name in ("worker-1", "worker-2"):
        platform.start_part(name)
    platform.wait_until_ready()
    heal_and_check(platform, "timeouts")


def test_a_child_that_ends_itself_is_noticed_at_once(platform: Platform) -> None:
    task = platform.submit("fault.crash")
    platform.wait_for_state(task, "success", seconds=40)
    [(rescues, epoch)] = platform.query(
        "SELECT rescues, epoch FROM taskmill_task WHERE id = %s", task
    )
    assert (rescues, epoch) == (1, 2)
    heal_and_check(platform, "self-inflicted end")


def test_an_unknown_commit_is_settled_by_the_idempotency_key(platform: Platform) -> None:
    body = {"type": "fault.work", "payload": {"ledger": str(platform.ledger)}}
    key = uuid.uuid4().hex
    first = platform.request("POST", "/tasks", body, Idempotency_Key=key)
    platform.kill_part("web")
    platform.start_part("web")
    platform.wait_until_ready()
    again = platform.request("POST", "/tasks", body, Idempotency_Key=key)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    platform.accepted.add(uuid.UUID(first.json()["id"]))
    heal_and_check(platform, "repeated submission")


def test_the_store_was_never_asked_to_forget(platform: Platform) -> None:
    with psycopg.connect(platform.postgres.url("taskmill")) as connection:
        names = ("fsync", "synchronous_commit", "full_page_writes")
        found = {name: connection.execute(f"SHOW {name}").fetchone() for name in names}
    assert found == dict.fromkeys(names, ("on",))
    assert Path(platform.ledger).stat().st_size > 0
