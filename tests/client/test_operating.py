"""Dead letters and webhooks over both clients, on the real platform."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskmill_client import Conflict, NotFound, TaskFailure, ValidationRefused, verify_webhook
from tests.acceptance.installations import Installation
from tests.client.sides import side
from tests.processes import wait_for
from tests.receivers import Receiver, receiver


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, installation: Installation) -> Iterator[Any]:
    def make(kind: type) -> Any:
        return kind(installation.url, installation.credentials()["token"])

    with side(request.param, make) as made:
        yield made


@pytest.fixture
def code() -> str:
    """An error code that no other test has."""
    return f"CODE_{uuid.uuid4().hex[:8].upper()}"


@pytest.fixture
def shop() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def dead(client: Any, code: str, number: int = 3) -> list[str]:
    """Let so many tasks fail with a code; gives their ids, the newest end first."""
    fields = {"payload": {"code": code, "message": "as asked"}, "max_retry": 0}
    tasks = [client.tasks.submit("demo.fail", **fields) for _ in range(number)]
    for task in tasks:
        assert task.wait(timeout=60).status == "failed"
    ended = sorted(tasks, key=lambda task: (task.finished_at, task.id), reverse=True)
    return [task.id for task in ended]


def wait_until_dead(client: Any, ids: list[str]) -> None:
    for one in ids:
        assert client.tasks.wait(one, timeout=60).status == "failed"


def test_dead_letters_are_listed_and_grouped_by_cause(client: Any, code: str) -> None:
    ids = dead(client, code)
    found = list(client.dead_letters.list(code=code))
    assert [one.id for one in found] == ids
    letter = found[0]
    assert (letter.type, letter.queue, letter.status) == ("demo.fail", "default", "failed")
    assert letter.error == TaskFailure(
        code=code, message="as asked", type=letter.error.type, attempt=1
    )
    assert letter.finished_at >= letter.created_at
    assert letter.raw["id"] == letter.id
    [group] = client.dead_letters.groups(code=code, type="demo.fail").groups
    assert (group.count, group.code, group.sample_id) == (3, code, ids[0])
    assert group.last_seen_at == letter.finished_at
    assert group.id == letter.group_id
    assert [one.id for one in client.dead_letters.list(group_id=group.id, limit=2)] == ids[:2]
    assert list(client.dead_letters.list(code=code, status="timeout")) == []
    assert list(client.dead_letters.list(code=code, queue="other")) == []
    assert client.dead_letters.groups(code=code, status="error").groups == []
    assert client.dead_letters.groups(code=code).is_capped is False


def test_dead_letters_are_retried_by_id_and_by_filter(client: Any, code: str) -> None:
    ids = dead(client, code)
    versions = [client.tasks.get(one).version for one in ids]
    assert client.dead_letters.retry([ids[0]]) == 1
    wait_until_dead(client, ids)
    changed = [client.tasks.get(one).version > old for one, old in zip(ids, versions, strict=True)]
    assert changed == [True, False, False]
    early = datetime.now(tz=UTC) - timedelta(hours=1)
    assert client.dead_letters.retry(code=code, finished_before=early) == 0
    wanted = {"code": code, "type": "demo.fail", "queue": "default", "status": "failed"}
    assert client.dead_letters.retry(**wanted, idempotency_key=code) == 3
    wait_until_dead(client, ids)
    assert client.dead_letters.retry(**wanted, idempotency_key=code) == 3
    assert all(client.tasks.get(one).done for one in ids)


def test_dead_letters_are_purged(client: Any, code: str) -> None:
    ids = dead(client, code)
    assert client.dead_letters.purge([uuid.UUID(ids[0])]) == 1
    with pytest.raises(NotFound) as caught:
        client.tasks.get(ids[0])
    assert caught.value.code == "task_purged"
    assert [one.id for one in client.dead_letters.list(code=code)] == ids[1:]
    assert client.dead_letters.purge(code=code, status="failed") == 2
    assert client.dead_letters.purge(code=code) == 0


def test_nothing_given_never_means_all_dead_letters(client: Any, code: str) -> None:
    [one] = dead(client, code, 1)
    for ask in (client.dead_letters.retry, client.dead_letters.purge):
        both = ({"ids": [one], "code": code}, {"ids": [], "code": code})
        for given in ({}, {"ids": []}, *both):
            with pytest.raises(ValidationRefused):
                ask(**given)
    with pytest.raises(ValidationRefused):
        client.dead_letters.retry_paced(1)
    assert client.tasks.get(one).status == "failed"


def test_dead_letters_are_retried_at_a_pace_until_that_is_aborted(client: Any, code: str) -> None:
    dead(client, code)
    begun = client.dead_letters.retry_paced(0.001, code=code, idempotency_key=code)
    assert (begun.state, begun.total, begun.per_second) == ("running", 3, 0.001)
    assert begun.wanted["code"] == code
    again = client.dead_letters.retry_paced(0.001, code=code, idempotency_key=code)
    assert again.id == begun.id
    assert client.dead_letters.paced_retry(begun.id).created_at == begun.created_at
    assert begun.id in {one.id for one in client.dead_letters.paced_retries(limit=20)}
    ended = client.dead_letters.abort_paced_retry(begun.id)
    assert (ended.state, ended.finished_at is None) == ("aborted", False)
    with pytest.raises(Conflict):
        client.dead_letters.abort_paced_retry(begun.id)
    with pytest.raises(ValueError, match=r"is no UUID.*paced_retries\(\)"):
        client.dead_letters.paced_retry("x")


def test_a_webhook_gets_events_that_its_secret_verifies(
    client: Any, shop: Receiver, code: str
) -> None:
    wish = {"types": ["task.succeeded"], "tags": [code], "description": "shop"}
    webhook = client.webhooks.create(shop.url, **wish, idempotency_key=code)
    again = client.webhooks.create(shop.url, **wish, idempotency_key=code)
    assert (again.id, again.secret) == (webhook.id, webhook.secret)
    assert webhook.secret not in repr(webhook)
    found = client.webhooks.get(webhook.id)
    assert (found.url, found.types, found.tags) == (shop.url, ["task.succeeded"], [code])
    assert (found.description, found.enabled, found.secret) == ("shop", True, None)
    assert webhook.id in {one.id for one in client.webhooks.list(limit=20)}
    task = client.tasks.submit("demo.echo", {}, tags=[code]).wait(timeout=60)
    wait_for(lambda: bool(shop.received))
    sent = shop.received[0]
    assert verify_webhook(sent.body, sent.headers, webhook.secret).subject == task.id
    wait_for(lambda: next(client.webhooks.deliveries(webhook.id)).finished_at is not None)
    [delivery] = client.webhooks.deliveries(webhook.id)
    assert (delivery.id, delivery.task_id, delivery.webhook) == (sent.id, task.id, webhook.id)
    assert (delivery.event_type, delivery.tries, delivery.last_status) == ("task.succeeded", 1, 204)
    assert [one.id for one in client.tasks.deliveries(task.id)] == [delivery.id]
    seen = client.webhooks.delivery(delivery.id)
    assert [(one.number, one.status) for one in seen.log] == [(1, 204)]
    assert seen.log[0].at >= delivery.created_at
    assert seen.body.encode() == sent.body
    assert client.webhooks.resend(delivery.id).id == delivery.id
    wait_for(lambda: len(shop.received) == 2)
    assert shop.received[1].id == sent.id
    assert client.webhooks.delete(webhook.id) is None


def test_a_webhook_is_tested_changed_given_another_secret_and_deleted(
    client: Any, shop: Receiver, code: str
) -> None:
    webhook = client.webhooks.create(shop.url, types=["task.failed"], tags=[code])
    fresh = client.webhooks.rotate_secret(webhook.id)
    assert fresh.secret != webhook.secret
    assert fresh.secret not in repr(fresh)
    assert fresh.previous_secret_until > datetime.now(tz=UTC)
    assert client.webhooks.test(webhook.id).event_type == "webhook.test"
    wait_for(lambda: bool(shop.received))
    for secret in (fresh.secret, webhook.secret):
        sent = shop.received[0]
        assert verify_webhook(sent.body, sent.headers, secret).type == "webhook.test"
    changed = client.webhooks.update(webhook.id, description="packing", enabled=False)
    assert (changed.description, changed.enabled) == ("packing", False)
    assert (changed.types, changed.tags, changed.url) == (["task.failed"], [code], shop.url)
    assert changed.disabled_at is not None
    with pytest.raises(Conflict):
        client.webhooks.test(webhook.id)
    everything = client.webhooks.update(webhook.id, types=[], tags=(), url=f"{shop.url}/other")
    assert (everything.types, everything.tags, everything.enabled) == ([], [], False)
    assert everything.url == f"{shop.url}/other"
    client.webhooks.delete(webhook.id)
    with pytest.raises(NotFound):
        client.webhooks.get(webhook.id)
    with pytest.raises(ValueError, match=r"is no UUID.*webhooks\.create\(\)"):
        client.webhooks.delete("")
    with pytest.raises(ValueError, match=r"is no UUID.*webhooks\.deliveries\(\)"):
        client.webhooks.delivery("..")


def test_an_address_is_added_to_a_task_that_has_ended(client: Any, shop: Receiver) -> None:
    secret = client.webhooks.rotate_task_secret().secret
    task = client.tasks.submit("demo.echo", {}).wait(timeout=60)
    assert client.tasks.add_webhook(task.id, shop.url) == {"task_id": task.id, "url": shop.url}
    wait_for(lambda: bool(shop.received))
    sent = shop.received[0]
    assert verify_webhook(sent.body, sent.headers, secret).subject == task.id
    [delivery] = client.tasks.deliveries(task.id)
    assert (delivery.webhook, delivery.url, delivery.id) == (None, shop.url, sent.id)
