"""An engine that dies while a webhook is under way: it is sent again under the same id."""

from __future__ import annotations

from typing import Any

import pytest

from notifications.models import WebhookDelivery, WebhookTry
from tests.engines import start_engine
from tests.factories import make_task, make_tenant
from tests.receivers import receiver
from tests.webhooks import LOCAL, make_due, make_endpoint, wait_delivery

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_delivery_whose_sender_was_killed_is_sent_again_under_the_same_id(settings: Any) -> None:
    settings.TASKMILL_WEBHOOKS = LOCAL
    variables = {
        "TASKMILL_WEBHOOK_ALLOW": "127.0.0.0/8",
        "TASKMILL_LEADER_LEASE_SECONDS": "1",
    }
    loops = ("--only", "relay,webhooks,webhooks-send")
    with receiver() as shop:
        tenant = make_tenant()
        endpoint, secret = make_endpoint(tenant, shop.url, types=["task.created"])
        shop.gate.clear()
        engine = start_engine(*loops, **variables)
        try:
            make_task(tenant)
            shop.wait(1)
            engine.kill()
            row = WebhookDelivery.objects.get(endpoint_id=endpoint)
            assert (row.state, row.tries, row.epoch) == ("pending", 1, 1)
            assert row.leased_until == row.next_try_at
            shop.gate.set()
            make_due(row.id)
            engine = start_engine(*loops, **variables)
            first, second = shop.wait(2)
            wait_delivery(row.id, state="delivered")
            assert engine.stop() == 0
        finally:
            if engine.popen.poll() is None:
                engine.kill()
    assert first.id == second.id == str(row.id)
    assert first.verified(secret) == second.verified(secret)
    [logged] = WebhookTry.objects.all()
    assert (logged.number, logged.status) == (2, 204)
