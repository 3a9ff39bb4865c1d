"""The cases of test_api_openapi.py that are about limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.factories import make_task

KEY: Final[dict[str, Any]] = {"concurrency_key": "contract/1", "max_concurrency": 1}


def get_concurrency_key(call: Any, world: Any) -> None:
    for state in ("running", "dispatched", "queued", "blocked"):
        make_task(world.tenant, state=state, **KEY)
    call("/concurrency-keys/contract%2F1")
    call("/concurrency-keys/no-such")


def change_concurrency_key(call: Any, world: Any) -> None:
    call("/concurrency-keys/contract%2F1", {"concurrency": 3, "rate": "10/min"})
    call("/concurrency-keys/contract%2F1", {"concurrency": None, "rate": None})
    call("/concurrency-keys/contract%2F1", {"rate": "often"})


def change_task_type(call: Any, world: Any) -> None:
    call("/task-types/tests.order", {"concurrency": 3, "rate": "10/min"})
    call("/task-types/tests.order", {"concurrency": None})
    call("/task-types/tests.order", {"concurrency": 0})
    call("/task-types/no.such", {"concurrency": 1})


def get_quotas(call: Any, world: Any) -> None:
    call("/quotas")
    world.api.call("PATCH", "/quotas", {"max_submissions_per_minute": 5})
    world.api.post("/tasks", {"type": "tests.echo"})
    call("/quotas")


def change_quotas(call: Any, world: Any) -> None:
    call("/quotas", {"max_waiting": 3, "max_waiting_bytes": 99, "max_submissions_per_minute": 7})
    call("/quotas", {"max_waiting": None})
    call("/quotas", {"max_waiting": 0})


LIMIT_CASES: Final[dict[str, Callable[[Any, Any], None]]] = {
    case.__name__: case
    for case in (
        get_concurrency_key,
        change_concurrency_key,
        change_task_type,
        get_quotas,
        change_quotas,
    )
}
