"""Webhooks end to end: real loops, a real receiver, the stock library for signatures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from standardwebhooks import WebhookVerificationError

from notifications.models import WebhookDelivery, WebhookEndpoint, WebhookTry
from notifications.webhooks import services
from notifications.webhooks.selectors import webhook_queue
from notifications.webhooks.services import EndpointWish
from notifications.webhooks.sink import WebhookSink
from tasks_app.conf import conf
from tasks_app.platform import SinkWork
from tests.attempts import succeed_one
from tests.engines import running_loop
from tests.factories import claim, drive, make_task, make_tenant
from tests.processes import wait_for
from tests.receivers import Receiver
from tests.webhooks import (
    caller_of,
    delivery,
    delivery_states,
    delivery_when_there,
    failing,
    make_due,
    make_endpoint,
    running_sender,
    running_webhooks,
    seconds_until_next_try,
    sequence_events,
    told_of_a_task,
    tries_logged,
    wait_delivery,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("local_receivers")]


def test_events_reach_an_endpoint_signed_and_each_once(shop: Receiver) -> None:
    tenant = make_tenant()
    make_task(tenant, state="success")
    sequence_events()
    endpoint, secret = make_endpoint(tenant, shop.url)
    task = make_task(tenant, state="success", tags=["vip"], metadata={"order": 7})
    with running_webhooks():
        requests = shop.wait(3)
        wait_until_read()
        wait_for(lambda: not webhook_queue().pending, reason="all settled")
    events = [one.verified(secret) for one in requests]
    assert {one["subject"] for one in events} == {str(task)}
    assert {one["type"] for one in events} == {"task.created", "task.started", "task.succeeded"}
    assert len({one.id for one in requests}) == len(shop.received) == 3
    final = next(one for one in events if one["type"] == "task.succeeded")
    assert final["timestamp"] == final["time"]
    assert final["data"]["status"] == "success"
    about = final["data"]["task"]
    assert (about["result"], about["metadata"]) == ({"ok": True}, {"order": 7})
    assert about["tags"] == ["vip"]
    assert about["url"].endswith(f"/api/v1/tasks/{task}")
    logged = WebhookTry.objects.filter(delivery__endpoint_id=endpoint)
    assert {(one.status, one.error, one.address) for one in logged} == {(204, "", "127.0.0.1")}
    assert {one.state for one in WebhookDelivery.objects.all()} == {"delivered"}


@pytest.mark.parametrize("result", ["hello", "123", "null", 12, None, [], False])
def test_a_result_that_is_no_object_is_told_as_it_is(shop: Receiver, result: Any) -> None:
    tenant = make_tenant()
    _, secret = make_endpoint(tenant, shop.url, types=["task.succeeded"])
    task = make_task(tenant)
    drive(task, "dispatched")
    epoch = claim(task)
    with connection.cursor() as cursor:
        assert succeed_one(cursor, task, epoch=epoch, result=json.dumps(result))
    sequence_events()
    with running_webhooks():
        [request] = shop.wait(1)
    told = request.verified(secret)["data"]["task"]["result"]
    assert (told, type(told)) == (result, type(result))


def wait_until_read() -> None:
    """Wait until the relay and the sink have seen every event there is."""

    def is_read() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT (SELECT count(*) FROM taskmill_event)"
                " = (SELECT coalesce(max(sequence), 0) FROM taskmill_feed_cursor)"
            )
            return bool(cursor.fetchone()[0])

    wait_for(is_read, reason="the sink has read everything")


def test_types_and_tags_choose_what_an_endpoint_gets(shop: Receiver) -> None:
    tenant = make_tenant()
    make_endpoint(tenant, f"{shop.url}/types", types=["task.failed"])
    make_endpoint(tenant, f"{shop.url}/tags", tags=["vip", "gold"])
    make_endpoint(make_tenant(), f"{shop.url}/stranger")
    make_task(tenant, state="success")
    make_task(tenant, state="failed")
    make_task(tenant, state="queued", tags=["gold"])
    with running_webhooks():
        shop.wait(2)
        wait_until_read()
        wait_for(lambda: not webhook_queue().pending, reason="all settled")
    found = sorted((one.path, one.event["type"]) for one in shop.received)
    assert found == [("/hook/tags", "task.created"), ("/hook/types", "task.failed")]


def test_the_addresses_of_a_task_get_its_end_signed_with_the_secret_of_tasks(
    shop: Receiver,
) -> None:
    tenant = make_tenant()
    secret = services.rotate_task_secret(caller=caller_of(tenant))
    urls = [f"{shop.url}/a", f"{shop.url}/b"]
    task = make_task(tenant, state="failed", webhook_urls=urls)
    with running_webhooks():
        requests = shop.wait(2)
    assert sorted(one.path for one in requests) == ["/hook/a", "/hook/b"]
    for one in requests:
        event = one.verified(secret)
        assert (event["type"], event["subject"]) == ("task.failed", str(task))
        assert event["data"]["error"]["code"] == "HANDLER_ERROR"
        assert b"Traceback" not in one.body


def test_an_address_added_to_a_task_gets_its_end_before_or_after_it(shop: Receiver) -> None:
    tenant = make_tenant()
    caller = caller_of(tenant)
    early, late = make_task(tenant, state="queued"), make_task(tenant, state="success")
    with running_webhooks():
        wait_until_read()
        services.add_receiver(caller=caller, task_id=early, url=shop.url)
        services.add_receiver(caller=caller, task_id=late, url=shop.url)
        services.add_receiver(caller=caller, task_id=late, url=shop.url)
        drive(early, "success")
        shop.wait(2)
        wait_until_read()
        wait_for(lambda: not webhook_queue().pending, reason="all settled")
    assert sorted(one.event["subject"] for one in shop.received) == sorted([str(early), str(late)])


def test_what_the_sink_has_read_twice_is_sent_once(shop: Receiver) -> None:
    tenant = make_tenant()
    make_endpoint(tenant, shop.url)
    make_task(tenant, state="success", webhook_urls=[shop.url])
    with running_webhooks():
        shop.wait(4)
        wait_until_read()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_feed_cursor SET sequence = 0")
    with running_webhooks():
        wait_until_read()
        wait_for(lambda: not webhook_queue().pending, reason="all settled")
    assert len(shop.received) == WebhookDelivery.objects.count() == 4


def test_a_failure_is_tried_again_by_schedule_under_the_same_id(shop: Receiver) -> None:
    endpoint = failing(shop, 500, 404, 503, 200)
    with running_webhooks():
        shop.wait(1)
        row = delivery(endpoint_id=endpoint)
        for tries, least in ((1, 4), (2, 299), (3, 1799)):
            wait_delivery(row.id, tries=tries)
            assert least < seconds_until_next_try(row.id) <= (least + 1) * 1.1
            assert WebhookEndpoint.objects.get().failures == tries
            make_due(row.id)
        row = wait_delivery(row.id, state="delivered")
    assert len({one.id for one in shop.received}) == 1
    assert len({one.headers["webhook-signature"] for one in shop.received}) >= 1
    assert [one.status for one in WebhookTry.objects.order_by("number")] == [500, 404, 503, 200]
    found = WebhookEndpoint.objects.get()
    assert (row.tries, found.failures, found.failing_since) == (4, 0, None)


def test_tries_end_after_the_schedule_and_the_delivery_can_be_sent_again(shop: Receiver) -> None:
    endpoint = failing(shop, *[500] * 10, 200)
    with running_webhooks(), connection.cursor() as cursor:
        row = delivery_when_there(endpoint)
        wait_delivery(row.id, tries=1)
        cursor.execute("UPDATE taskmill_webhook_delivery SET tries = 9")
        make_due(row.id)
        wait_delivery(row.id, state="failed")
        shop.answer(200)
        services.resend(caller=caller_of_row(row), delivery_id=row.id)
        row = wait_delivery(row.id, state="delivered")
    assert len({one.id for one in shop.received}) == 1
    assert (row.tries, row.tries_base, len(shop.received)) == (11, 10, 3)


def caller_of_row(row: WebhookDelivery) -> Any:
    return caller_of(row.tenant)


def test_retry_after_is_honoured_up_to_a_day(shop: Receiver) -> None:
    endpoint = failing(shop, 429, Retry_After="3600")
    with running_webhooks():
        row = delivery_when_there(endpoint)
        wait_delivery(row.id, tries=1)
        assert 3590 < seconds_until_next_try(row.id) <= 3600
        shop.answer(503, Retry_After="1000000000")
        make_due(row.id)
        wait_delivery(row.id, tries=2)
        assert 86_390 < seconds_until_next_try(row.id) <= 86_400


def test_gone_disables_the_endpoint_and_stops_what_is_pending(shop: Receiver) -> None:
    endpoint = failing(shop, 500)
    with running_webhooks():
        first = delivery_when_there(endpoint)
        wait_delivery(first.id, tries=1)
        shop.answer(410)
        make_task(first.tenant)
        wait_for(lambda: WebhookEndpoint.objects.filter(is_enabled=False).exists())
        make_task(first.tenant)
        wait_until_read()
    found = WebhookEndpoint.objects.get()
    assert "410" in found.disabled_reason
    assert found.disabled_at is not None
    assert sorted(one.state for one in WebhookDelivery.objects.all()) == ["failed", "stopped"]
    assert len(shop.received) == 2


def test_an_endpoint_without_a_success_for_five_days_is_disabled(shop: Receiver) -> None:
    endpoint = failing(shop, 500)
    with running_webhooks(), connection.cursor() as cursor:
        row = delivery_when_there(endpoint)
        wait_delivery(row.id, tries=1)
        set_failures = (
            "UPDATE taskmill_webhook_endpoint SET failures = %s,"
            " failing_since = taskmill_now() - make_interval(secs => %s)"
        )
        for failures, days in ((50, 4.9), (5, 6.0)):
            cursor.execute(set_failures, [failures, days * 86_400])
            make_due(row.id)
            tries = tries_logged(row.id)
            wait_delivery(row.id, tries=tries + 1)
            assert WebhookEndpoint.objects.get().is_enabled
        cursor.execute(set_failures, [9, 5.1 * 86_400])
        make_due(row.id)
        wait_for(lambda: WebhookEndpoint.objects.filter(is_enabled=False).exists())
    assert WebhookEndpoint.objects.get().disabled_reason == "no success for 5 days"
    assert delivery(id=row.id).state == "stopped"
    services.revise_endpoint(
        caller=caller_of(row.tenant), endpoint_id=endpoint, wish=EndpointWish(is_enabled=True)
    )
    again = WebhookEndpoint.objects.get()
    assert (again.is_enabled, again.failures, again.failing_since) == (True, 0, None)


def test_after_a_rotation_both_secrets_verify_until_the_overlap_is_over(shop: Receiver) -> None:
    tenant = make_tenant()
    caller = caller_of(tenant)
    endpoint, first = make_endpoint(tenant, shop.url, types=["task.created"])
    shop.answer(500, 200)
    with running_webhooks():
        make_task(tenant)
        shop.wait(1)
        row = delivery(endpoint_id=endpoint)
        wait_delivery(row.id, tries=1)
        second = services.rotate_secret(caller=caller, endpoint_id=endpoint)
        make_due(row.id)
        wait_delivery(row.id, state="delivered")
        WebhookEndpoint.objects.update(previous_until=services.DatabaseNow())
        services.resend(caller=caller, delivery_id=row.id)
        before, during, after = shop.wait(3)
    assert first != second
    before.verified(first)
    during.verified(first)
    during.verified(second)
    after.verified(second)
    for request, secret in ((before, second), (after, first)):
        with pytest.raises(WebhookVerificationError):
            request.verified(secret)


def test_a_test_event_has_one_try_that_counts_for_nothing(shop: Receiver) -> None:
    tenant = make_tenant()
    endpoint, secret = make_endpoint(tenant, shop.url)
    shop.answer(500)
    queued = services.send_test(caller=caller_of(tenant), endpoint_id=endpoint)
    with running_sender():
        [request] = shop.wait(1)
        wait_delivery(queued.id, state="failed")
    assert request.verified(secret)["type"] == "webhook.test"
    assert WebhookEndpoint.objects.get().failures == 0


def test_what_belongs_to_a_disabled_or_deleted_endpoint_is_not_sent(shop: Receiver) -> None:
    tenant = make_tenant()
    gone, _ = make_endpoint(tenant, shop.url, types=["task.created"])
    off, _ = make_endpoint(tenant, f"{shop.url}/off", types=["task.created"])
    make_task(tenant)
    sequence_events()
    caller = caller_of(tenant)

    with running_loop(SinkWork(WebhookSink()), conf()):
        wait_for(lambda: webhook_queue().pending == 2, reason="queued")
    WebhookEndpoint.objects.filter(id=off).update(is_enabled=False)
    WebhookEndpoint.objects.filter(id=gone).delete()
    with running_sender():
        wait_for(lambda: not webhook_queue().pending, reason="stopped")
    assert shop.received == []
    assert delivery_states(off) == {"stopped": 1}
    services.delete_endpoint(caller=caller, endpoint_id=off)
    assert delivery_states(off) == {}


def test_the_queue_says_how_long_the_oldest_has_waited() -> None:
    assert webhook_queue().oldest_due_seconds == 0
    tenant = make_tenant()
    endpoint, _ = make_endpoint(tenant, "https://example.com/")
    services.send_test(caller=caller_of(tenant), endpoint_id=endpoint)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_webhook_delivery SET next_try_at = next_try_at - interval '1 h'"
        )
    found = webhook_queue()
    assert (found.pending, found.due) == (1, 1)
    assert 3600 <= found.oldest_due_seconds < 3700


def test_settled_deliveries_are_pruned_with_their_tries(shop: Receiver) -> None:
    endpoint = told_of_a_task(shop)
    with running_webhooks():
        row = delivery_when_there(endpoint)
        wait_delivery(row.id, state="delivered")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_webhook_delivery SET finished_at = finished_at - interval '31 days'"
        )
    with running_sender():
        wait_for(lambda: not WebhookDelivery.objects.exists(), reason="pruned")
    assert not WebhookTry.objects.exists()


def test_the_examples_of_the_how_to_verify_what_is_sent(shop: Receiver) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "receive-webhooks.md"
    examples: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S):
        exec(block, examples)
    tenant = make_tenant()
    endpoint, secret = make_endpoint(tenant, shop.url)
    services.send_test(caller=caller_of(tenant), endpoint_id=endpoint)
    with running_sender():
        [request] = shop.wait(1)
    assert examples["receive"](request.body, request.headers, secret)["type"] == "webhook.test"
    assert examples["is_genuine"](request.body, request.headers, secret)
    assert not examples["is_genuine"](request.body + b" ", request.headers, secret)
    other = services.rotate_secret(caller=caller_of(tenant), endpoint_id=endpoint)
    assert not examples["is_genuine"](request.body, request.headers, other)
