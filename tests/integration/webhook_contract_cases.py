"""How the contract test calls the operations of webhooks, so that each gives all its successes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from notifications.models import WebhookDelivery, WebhookTry

URL = "https://93.184.216.34/hook"


def made(world: Any, **fields: Any) -> str:
    answer = world.api.post("/webhooks", {"url": URL} | fields)
    return f"/webhooks/{answer.json()['id']}"


def queued(world: Any) -> str:
    return f"/deliveries/{world.api.post(made(world) + '/test').json()['id']}"


def list_webhooks(call: Any, world: Any) -> None:
    made(world)
    made(world, tags=["a"], types=["task.failed"])
    assert len(call("/webhooks?limit=1").json()["results"]) == 1


def create_webhook(call: Any, world: Any) -> None:
    call("/webhooks", {"url": URL, "types": ["task.failed"], "tags": ["a"], "description": "d"})
    call("/webhooks", {"url": "https://127.0.0.1/"})


def get_webhook(call: Any, world: Any) -> None:
    call(made(world))


def revise_webhook(call: Any, world: Any) -> None:
    path = made(world)
    call(path, {"enabled": False, "tags": ["b"], "url": None})
    call(path, {"enabled": True})


def delete_webhook(call: Any, world: Any) -> None:
    call(made(world))


def rotate_webhook_secret(call: Any, world: Any) -> None:
    call(made(world) + "/rotate-secret")


def rotate_task_webhook_secret(call: Any, world: Any) -> None:
    call("/webhooks/task-secret/rotate")
    call("/webhooks/task-secret/rotate", {})


def test_webhook(call: Any, world: Any) -> None:
    path = made(world)
    for _ in range(11):
        call(f"{path}/test")
    world.api.patch(path, {"enabled": False})
    call(f"{path}/test")


test_webhook.__test__ = False  # type: ignore[attr-defined]  # the name is the operation's


def list_webhook_deliveries(call: Any, world: Any) -> None:
    path = made(world)
    for _ in range(3):
        world.api.post(f"{path}/test")
    call(f"{path}/deliveries?limit=2")


def list_task_deliveries(call: Any, world: Any) -> None:
    path = world.task("success")
    delivery_id = queued(world).rsplit("/", 1)[1]
    WebhookDelivery.objects.filter(id=delivery_id).update(task_id=path.rsplit("/", 1)[1])
    assert call(f"{path}/deliveries?limit=2").json()["results"]


def get_webhook_delivery(call: Any, world: Any) -> None:
    path = queued(world)
    WebhookTry.objects.create(
        delivery_id=path.rsplit("/", 1)[1], number=1, at="2027-01-01T00:00Z", duration_ms=5
    )
    assert call(path).json()["log"]


def resend_webhook_delivery(call: Any, world: Any) -> None:
    call(queued(world) + "/resend")


def add_task_webhook(call: Any, world: Any) -> None:
    call(world.task() + "/webhooks", {"url": URL})
    call(world.task() + "/webhooks", {"url": "https://127.0.0.1/"})


WEBHOOK_CASES: dict[str, Callable[[Any, Any], None]] = {
    case.__name__: case
    for case in (
        list_webhooks,
        create_webhook,
        get_webhook,
        revise_webhook,
        delete_webhook,
        rotate_webhook_secret,
        rotate_task_webhook_secret,
        test_webhook,
        list_webhook_deliveries,
        list_task_deliveries,
        get_webhook_delivery,
        resend_webhook_delivery,
        add_task_webhook,
    )
}
