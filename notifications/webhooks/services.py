"""What tenants and operators do with webhooks: one use case per function, one transaction each."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import DateTimeField, Func

from notifications.egress import EgressRefused, check_receiver, egress_policy, look_up_within
from notifications.models import WebhookDelivery, WebhookEndpoint, WebhookTaskSecret
from notifications.sealing import seal, unseal
from notifications.signing import new_secret, shown_secret
from notifications.webhooks.claims import STOP_ALL
from notifications.webhooks.conf import webhooks_conf
from notifications.webhooks.messages import MOST_RESULT_BYTES, body_of, test_body
from notifications.webhooks.queueing import NewDelivery, have_task_secrets, queue_deliveries
from notifications.webhooks.sink import delivery_of
from notifications.webhooks.verdict import TEST_EVENT
from tasks_app.errors import NotFound, RateLimited, StateConflict, ValidationFailed
from tasks_app.platform import Caller, add_task_receiver, feed_bounds, task_facts

TESTS_PER_MINUTE: Final = 10
LOOK_UP_SECONDS: Final = 2.0

_ROTATE: Final = """
UPDATE {table} SET previous_secret = secret, secret = %(secret)s,
    previous_until = taskmill_now() + make_interval(secs => %(overlap)s::float8)
WHERE {key} RETURNING 1
"""
_ROTATE_ENDPOINT: Final = _ROTATE.format(
    table="taskmill_webhook_endpoint", key="id = %(id)s AND tenant_id = %(tenant)s"
)
_ROTATE_TASK_SECRET: Final = _ROTATE.format(
    table="taskmill_webhook_task_secret", key="tenant_id = %(tenant)s"
)
_DELETE: Final = """
WITH gone AS (
    DELETE FROM taskmill_webhook_endpoint WHERE id = %(id)s AND tenant_id = %(tenant)s RETURNING id
), deliveries AS (
    DELETE FROM taskmill_webhook_delivery d USING gone WHERE d.endpoint_id = gone.id RETURNING d.id
), tries AS (
    DELETE FROM taskmill_webhook_try t USING deliveries d WHERE t.delivery_id = d.id
)
SELECT 1 FROM gone
"""
_RESEND: Final = """
UPDATE taskmill_webhook_delivery SET state = 'pending', finished_at = NULL, leased_until = NULL,
    next_try_at = taskmill_now(), tries_base = tries, epoch = epoch + 1
WHERE id = %(id)s AND tenant_id = %(tenant)s
RETURNING pg_notify('taskmill_webhook', '')
"""
_TESTS: Final = """
SELECT count(*), to_char(taskmill_now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
FROM (SELECT event_type, created_at FROM taskmill_webhook_delivery
      WHERE endpoint_id = %(id)s ORDER BY id DESC LIMIT 200) d
WHERE event_type = %(type)s AND created_at > taskmill_now() - interval '1 min'
"""


class DatabaseNow(Func):
    """`taskmill_now()`: the clock that decides."""

    function = "taskmill_now"
    output_field = DateTimeField()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointWish:
    """What an endpoint is to be; None leaves a field as it is."""

    url: str | None = None
    description: str | None = None
    types: Sequence[str] | None = None
    tags: Sequence[str] | None = None
    is_enabled: bool | None = None

    def fields(self) -> dict[str, Any]:
        """Give what is to change, by column."""
        wished = {
            "url": self.url,
            "description": self.description,
            "types": None if self.types is None else list(self.types),
            "tags": None if self.tags is None else list(self.tags),
        }
        return {name: value for name, value in wished.items() if value is not None}


def create_endpoint(*, caller: Caller, wish: EndpointWish) -> WebhookEndpoint:
    """Make an endpoint, which gets the events that the feed has from now on.

    Raises:
        ValidationFailed: the address may not be sent to, or the tenant has enough endpoints.
    """
    url = _checked(wish.url or "")
    most = webhooks_conf().max_endpoints
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM taskmill_tenant WHERE id = %s FOR NO KEY UPDATE", [caller.tenant_id]
        )
        if WebhookEndpoint.objects.filter(tenant_id=caller.tenant_id).count() >= most:
            raise ValidationFailed(f"a tenant has at most {most} endpoints; delete one")
        endpoint = WebhookEndpoint.objects.create(
            tenant_id=caller.tenant_id,
            **{"types": [], "tags": [], **wish.fields(), "url": url},
            secret=seal(new_secret()),
            after_sequence=feed_bounds(cursor).last,
            created_at=DatabaseNow(),
            updated_at=DatabaseNow(),
        )
        endpoint.refresh_from_db()
    return endpoint


def secret_of(*, caller: Caller, endpoint_id: uuid.UUID) -> str:
    """Give the secret that an endpoint's deliveries are signed with; for the answer to its making.

    Raises:
        NotFound: there is none.
    """
    return shown_secret(unseal(find_endpoint(caller=caller, endpoint_id=endpoint_id).secret))


def find_endpoint(*, caller: Caller, endpoint_id: uuid.UUID) -> WebhookEndpoint:
    """Give an endpoint of the caller's.

    Raises:
        NotFound: there is none.
    """
    found = WebhookEndpoint.objects.filter(tenant_id=caller.tenant_id, id=endpoint_id).first()
    if found is None:
        raise NotFound
    return found


def revise_endpoint(
    *, caller: Caller, endpoint_id: uuid.UUID, wish: EndpointWish
) -> WebhookEndpoint:
    """Change an endpoint. Disabling it stops what is pending; enabling it forgets its failures.

    Raises:
        NotFound: there is none.
        ValidationFailed: the new address may not be sent to.
    """
    endpoint = find_endpoint(caller=caller, endpoint_id=endpoint_id)
    fields = wish.fields()
    if wish.url is not None:
        fields["url"] = _checked(wish.url)
    with transaction.atomic():
        mine = WebhookEndpoint.objects.filter(id=endpoint.id)
        mine.update(**fields, updated_at=DatabaseNow())
        if wish.is_enabled:
            mine.filter(is_enabled=False).update(
                is_enabled=True,
                disabled_reason="",
                disabled_at=None,
                failing_since=None,
                failures=0,
            )
        elif wish.is_enabled is False:
            _disable(endpoint.id, f"disabled by {caller.actor}"[:200])
    endpoint.refresh_from_db()
    return endpoint


def _disable(endpoint_id: uuid.UUID, reason: str) -> bool:
    count = WebhookEndpoint.objects.filter(id=endpoint_id, is_enabled=True).update(
        is_enabled=False, disabled_reason=reason, disabled_at=DatabaseNow()
    )
    with connection.cursor() as cursor:
        cursor.execute(STOP_ALL, {"lane": f"endpoint.{endpoint_id}"})
    return count > 0


def delete_endpoint(*, caller: Caller, endpoint_id: uuid.UUID) -> None:
    """Delete an endpoint with its deliveries; a try under way may still reach it.

    Raises:
        NotFound: there is none.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DELETE, {"id": endpoint_id, "tenant": caller.tenant_id})
        if cursor.fetchone() is None:
            raise NotFound


def rotate_secret(*, caller: Caller, endpoint_id: uuid.UUID) -> str:
    """Give an endpoint a new secret, shown this once; the former one signs too for a while.

    Raises:
        NotFound: there is no such endpoint.
    """
    return _rotated(_ROTATE_ENDPOINT, {"id": endpoint_id, "tenant": caller.tenant_id})


def rotate_task_secret(*, caller: Caller) -> str:
    """Give the tenant a new secret for the addresses of its tasks, shown this once."""
    with transaction.atomic(), connection.cursor() as cursor:
        have_task_secrets(cursor, [caller.tenant_id])
        return _rotated(_ROTATE_TASK_SECRET, {"tenant": caller.tenant_id})


def _rotated(statement: str, values: dict[str, Any]) -> str:
    secret = new_secret()
    overlap = webhooks_conf().overlap_hours * 3600
    with connection.cursor() as cursor:
        cursor.execute(statement, values | {"secret": seal(secret), "overlap": overlap})
        if cursor.fetchone() is None:
            raise NotFound
    return shown_secret(secret)


def task_secret_until(*, caller: Caller) -> Any:
    """Give when the former secret of the tenant's tasks ceases to sign."""
    return WebhookTaskSecret.objects.get(tenant_id=caller.tenant_id).previous_until


def send_test(*, caller: Caller, endpoint_id: uuid.UUID) -> WebhookDelivery:
    """Queue a test event for an endpoint: one try, which counts as neither success nor failure.

    Raises:
        NotFound: there is no such endpoint.
        StateConflict: it is disabled.
        RateLimited: more than ten tests within a minute.
    """
    endpoint = find_endpoint(caller=caller, endpoint_id=endpoint_id)
    _check_enabled(endpoint)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_TESTS, {"id": endpoint.id, "type": TEST_EVENT})
        count, now = cursor.fetchone()
        if count >= TESTS_PER_MINUTE:
            raise RateLimited(f"at most {TESTS_PER_MINUTE} tests a minute", retry_after=60)
        event = f"{TEST_EVENT}.{uuid.uuid4()}"
        delivery = NewDelivery(
            tenant_id=caller.tenant_id,
            event=event,
            event_type=TEST_EVENT,
            body=test_body(event, at=now),
            endpoint_id=endpoint.id,
        )
        queue_deliveries(cursor, [delivery])
    return WebhookDelivery.objects.get(receiver=delivery.receiver, event=event)


def find_delivery(*, caller: Caller, delivery_id: uuid.UUID) -> WebhookDelivery:
    """Give a delivery of the caller's.

    Raises:
        NotFound: there is none.
    """
    found = WebhookDelivery.objects.filter(tenant_id=caller.tenant_id, id=delivery_id).first()
    if found is None:
        raise NotFound
    return found


def resend(*, caller: Caller, delivery_id: uuid.UUID) -> WebhookDelivery:
    """Send a delivery again, now and with all tries granted anew, under the same `webhook-id`.

    Raises:
        NotFound: there is no such delivery.
        StateConflict: its endpoint is disabled.
    """
    found = find_delivery(caller=caller, delivery_id=delivery_id)
    if found.endpoint_id is not None:
        _check_enabled(find_endpoint(caller=caller, endpoint_id=found.endpoint_id))
    with connection.cursor() as cursor:
        cursor.execute(_RESEND, {"id": delivery_id, "tenant": caller.tenant_id})
    found.refresh_from_db()
    return found


def add_receiver(*, caller: Caller, task_id: uuid.UUID, url: str) -> str:
    """Have a task's final event sent to an address too, also when the task has finished already.

    Returns:
        The address in its normal form.

    Raises:
        TaskNotFound: there is no such task.
        ValidationFailed: the address may not be sent to, or the task has ten of them.
    """
    checked = _checked(url)
    event = add_task_receiver(caller=caller, task_id=task_id, url=checked)
    if event is not None:
        with transaction.atomic(), connection.cursor() as cursor:
            facts = task_facts(cursor, [task_id], most_result_bytes=MOST_RESULT_BYTES)
            body = body_of(event, facts.get(task_id))
            queue_deliveries(
                cursor, [delivery_of(event, body, tenant_id=caller.tenant_id, url=checked)]
            )
    return checked


def disable_endpoint(*, endpoint_id: uuid.UUID, actor: str) -> bool:
    """Disable an endpoint of any tenant; False where it was."""
    with transaction.atomic():
        return _disable(endpoint_id, f"disabled by {actor}"[:200])


def _check_enabled(endpoint: WebhookEndpoint) -> None:
    if not endpoint.is_enabled:
        raise StateConflict("the endpoint is disabled; enable it first")


def _checked(url: str) -> str:
    """Give an address in its normal form; its name is looked up, where that is quick.

    Raises:
        ValidationFailed: it may not be sent to.
    """
    try:
        checked = check_receiver(url)
        host, addresses = look_up_within(checked, seconds=LOOK_UP_SECONDS)
        egress_policy().check_addresses(host, addresses)
    except EgressRefused as error:
        fault = {"pointer": "/url", "code": error.reason, "detail": error.detail}
        raise ValidationFailed(f"/url: {error.detail}", errors=[fault]) from error
    return checked
