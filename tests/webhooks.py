"""Webhooks in tests: the real loops in threads, endpoints on local receivers, a movable clock."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.db import connection

from notifications.models import WebhookDelivery, WebhookTry
from notifications.webhooks.conf import WebhooksConf
from notifications.webhooks.sending import SendWork
from notifications.webhooks.services import EndpointWish, create_endpoint, secret_of
from notifications.webhooks.sink import WebhookSink
from tasks_app.conf import conf
from tasks_app.models import Tenant
from tasks_app.platform import Caller, SinkWork
from tasks_app.relay.loop import RelayWork
from tests.engines import running_loop
from tests.factories import make_task, make_tenant
from tests.processes import wait_for
from tests.receivers import Receiver
from tests.relays import relay

LOCAL = WebhooksConf(allow=("127.0.0.0/8", "localhost"), total_seconds=2.0)


def caller_of(tenant: Tenant) -> Caller:
    """Give who acts for a tenant."""
    return Caller(tenant_id=tenant.pk, actor="tests")


def make_endpoint(tenant: Tenant, url: str, **wish: Any) -> tuple[uuid.UUID, str]:
    """Make an endpoint; gives its id and secret."""
    caller = caller_of(tenant)
    found = create_endpoint(caller=caller, wish=EndpointWish(url=url, **wish))
    secret = secret_of(caller=caller, endpoint_id=found.id)
    return found.id, secret


@contextmanager
def running_webhooks(**changes: Any) -> Iterator[None]:
    """The relay, the sink and the sending loop for the duration, with these settings."""
    found = replace(settings.TASKMILL_WEBHOOKS, **changes)
    works: list[Any] = [RelayWork(conf()), SinkWork(WebhookSink()), SendWork(found)]
    with ExitStack() as stack:
        for work in works:
            stack.enter_context(running_loop(work, conf()))
        yield


@contextmanager
def running_sender(**changes: Any) -> Iterator[None]:
    """The sending loop alone."""
    work = SendWork(replace(settings.TASKMILL_WEBHOOKS, **changes))
    with running_loop(work, conf()):
        yield


def sequence_events() -> None:
    """Put all committed events in order."""
    with relay() as one:
        one.drain()


def delivery(**fields: Any) -> WebhookDelivery:
    """Give the one delivery with these fields."""
    return WebhookDelivery.objects.get(**fields)


def wait_delivery(delivery_id: Any, *, tries: int | None = None, state: str = "") -> Any:
    """Wait until a delivery has so many logged tries, or this state."""

    def look() -> WebhookDelivery | None:
        is_there = tries is None or tries_logged(delivery_id) >= tries
        row = WebhookDelivery.objects.get(id=delivery_id)  # after the look at its tries
        return row if is_there and (not state or row.state == state) else None

    return wait_for(look, reason=f"{tries} tries, state {state}")


def tries_logged(delivery_id: Any) -> int:
    """Count a delivery's tries."""
    return WebhookTry.objects.filter(delivery_id=delivery_id).count()


def seconds_until_next_try(delivery_id: Any) -> float:
    """Give the seconds by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM next_try_at - taskmill_now())::float8"
            " FROM taskmill_webhook_delivery WHERE id = %s",
            [delivery_id],
        )
        return float(cursor.fetchone()[0])


def make_due(delivery_id: Any) -> None:
    """Let the wait for the next try be over."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_webhook_delivery SET next_try_at = taskmill_now() WHERE id = %s",
            [delivery_id],
        )
        cursor.execute("NOTIFY taskmill_webhook")


def told_of_a_task(shop: Receiver) -> uuid.UUID:
    """Give the endpoint of a receiver that has the creation of one task to come."""
    tenant = make_tenant()
    endpoint, _ = make_endpoint(tenant, shop.url, types=["task.created"])
    make_task(tenant)
    sequence_events()
    return endpoint


def failing(shop: Receiver, *statuses: int, **headers: str) -> uuid.UUID:
    """Give such an endpoint whose receiver answers its first tries so."""
    shop.answer(*statuses, **headers)
    return told_of_a_task(shop)


def delivery_when_there(endpoint: uuid.UUID) -> WebhookDelivery:
    """Give the first delivery of an endpoint, once it is queued."""
    found = wait_for(lambda: WebhookDelivery.objects.filter(endpoint_id=endpoint).first())
    assert found is not None
    return found


def delivery_states(endpoint: uuid.UUID) -> dict[str, int]:
    """Count the deliveries of an endpoint by their state."""
    states = WebhookDelivery.objects.filter(endpoint_id=endpoint).values_list("state", flat=True)
    return {one: list(states).count(one) for one in set(states)}
