"""The cases of test_api_openapi.py that are about queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.factories import make_task, make_worker

SETTINGS: Final = {
    "description": "letters",
    "order": "newest",
    "priority": 3,
    "max_retry": 0,
    "process_timeout": 9,
    "queue_timeout": None,
    "retry": {"policy": "fixed", "delay": 1.5},
    "ageing_seconds": 30,
    "max_share": None,
    "window_least": 2,
    "window_most": 20,
    "concurrency": 5,
    "rate": "100/15min",
    "max_waiting": 100,
    "max_waiting_bytes": 100_000,
    "max_submissions_per_minute": 60,
}


def list_queues(call: Any, world: Any) -> None:
    make_worker("contract")
    for state in ("queued", "dispatched", "running", "success", "failed"):
        make_task(world.tenant, queue="contract", state=state)
    call("/queues")


def create_queue(call: Any, world: Any) -> None:
    call("/queues", SETTINGS | {"name": "contract"})
    call("/queues", {"name": "contract"})


def get_queue(call: Any, world: Any) -> None:
    make_task(world.tenant, queue="contract", state="running")
    call("/queues/contract")


def change_queue(call: Any, world: Any) -> None:
    make_task(world.tenant, queue="contract")
    call("/queues/contract", SETTINGS)
    call("/queues/contract", {"retry": None, "concurrency": None})
    call("/queues/contract", {"order": "random"})
    call("/queues/contract", {"order": "newest", "max_share": 50})
    call("/queues/contract", {"order": "priority", "max_share": 50})


def pause_queue(call: Any, world: Any) -> None:
    make_task(world.tenant, queue="contract")
    call("/queues/contract/pause", {"reason": "stocktaking"})
    call("/queues/contract/pause", {})


def resume_queue(call: Any, world: Any) -> None:
    pause_queue(lambda path, body: world.call("pause_queue", path, body), world)
    call("/queues/contract/resume", {})


def clean_queue(call: Any, world: Any) -> None:
    make_task(world.tenant, queue="contract", state="failed")
    call("/queues/contract/clean", {"grace_period": 0, "status": "failed"})
    call("/queues/contract/clean", {"grace_period": -1, "status": "queued"})


def retry_failed_of_queue(call: Any, world: Any) -> None:
    make_task(world.tenant, queue="contract", state="failed")
    call("/queues/contract/retry-failed", {})


def list_failed_of_queue(call: Any, world: Any) -> None:
    make_task(world.tenant, queue="contract", state="failed")
    call("/queues/contract/failed?limit=1")


QUEUE_CASES: Final[dict[str, Callable[[Any, Any], None]]] = {
    case.__name__: case
    for case in (
        list_queues,
        create_queue,
        get_queue,
        change_queue,
        pause_queue,
        resume_queue,
        clean_queue,
        retry_failed_of_queue,
        list_failed_of_queue,
    )
}
