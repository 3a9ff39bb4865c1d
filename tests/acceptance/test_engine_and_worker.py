"""A real engine feeds a real Celery worker, over both brokers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines import start_engine
from tests.factories import make_task, make_tenant, task_state
from tests.processes import running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("broker", ["valkey", "rabbitmq"])
def test_what_is_submitted_runs_with_its_delay_and_its_key_kept(
    broker: str, request: pytest.FixtureRequest
) -> None:
    server: Any = request.getfixturevalue(broker)
    variables = {"BROKER_URL": server.url} if broker == "rabbitmq" else {}
    tenant = make_tenant("default")
    engine = start_engine(**variables)
    try:
        with running_worker(**variables):
            payload = {"left": 2, "right": 3}
            limit: dict[str, Any] = {"concurrency_key": "k", "max_concurrency": 1}
            tasks = [
                make_task(tenant, type="test.sum", payload=payload),
                make_task(
                    tenant, type="test.sum", payload=payload, state="scheduled", delay_seconds=0.5
                ),
                *(make_task(tenant, type="test.sum", payload=payload, **limit) for _ in range(4)),
            ]
            wait_for(
                lambda: {task_state(one) for one in tasks} == {"success"},
                seconds=60,
                reason=engine.output()[-2000:],
            )
        assert engine.stop() == 0
    finally:
        if engine.popen.poll() is None:
            engine.kill()
