"""Webhooks in the admin: shown without secrets, disabled and sent again by operators alone."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from notifications.models import WebhookDelivery, WebhookEndpoint, WebhookTry
from notifications.webhooks import services
from tests.factories import make_tenant
from tests.webhooks import caller_of, make_endpoint

pytestmark = pytest.mark.django_db
ENDPOINTS = "/admin/notifications/webhookendpoint/"
DELIVERIES = "/admin/notifications/webhookdelivery/"
POLYGLOT = "\"'><script>alert(1)</script>"


def make_rows() -> tuple[WebhookEndpoint, WebhookDelivery]:
    tenant = make_tenant()
    endpoint_id, _ = make_endpoint(tenant, "https://93.184.216.34/hook")
    delivery = services.send_test(caller=caller_of(tenant), endpoint_id=endpoint_id)
    WebhookTry.objects.create(
        delivery=delivery, number=1, at=delivery.created_at, duration_ms=5, status=500,
        error="status", detail=POLYGLOT, response_head=POLYGLOT,
    )  # fmt: skip
    return WebhookEndpoint.objects.get(), delivery


def operator(*codenames: str) -> Client:
    user = User.objects.create_user("-".join(["op", *codenames]), is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def act(client: Client, address: str, action: str, row: Any) -> Any:
    data = {"action": action, "_selected_action": [str(row.pk)], "index": "0"}
    return client.post(address, data, follow=True)


def test_pages_show_rows_and_no_secret_and_escape_what_receivers_sent(admin_client: Client) -> None:
    endpoint, delivery = make_rows()
    addresses = [
        ENDPOINTS, f"{ENDPOINTS}{endpoint.id}/change/", f"{DELIVERIES}?q={delivery.id}",
        f"{DELIVERIES}?q=nothing", DELIVERIES, f"{DELIVERIES}{delivery.id}/change/",
    ]  # fmt: skip
    for address in addresses:
        answer = admin_client.get(address)
        assert answer.status_code == 200
        text = answer.content.decode()
        assert endpoint.secret not in text
        assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_delivery_whose_endpoint_is_gone_is_still_shown(admin_client: Client) -> None:
    endpoint, delivery = make_rows()
    WebhookEndpoint.objects.filter(id=endpoint.id).delete()
    for address in (DELIVERIES, f"{DELIVERIES}{delivery.id}/change/"):
        assert admin_client.get(address).status_code == 200


def test_operators_disable_and_send_again_and_others_do_not() -> None:
    endpoint, delivery = make_rows()
    client = operator("operate_webhook")
    act(client, ENDPOINTS, "disable_selected", endpoint)
    endpoint.refresh_from_db()
    delivery.refresh_from_db()
    assert (endpoint.is_enabled, delivery.state) == (False, "stopped")
    assert endpoint.disabled_reason == "disabled by admin:op-operate_webhook"
    refused = act(client, DELIVERIES, "resend_selected", delivery)
    assert "the endpoint is disabled" in refused.content.decode()
    WebhookEndpoint.objects.update(is_enabled=True)
    act(client, DELIVERIES, "resend_selected", delivery)
    delivery.refresh_from_db()
    assert delivery.state == "pending"

    looking = operator("view_webhookendpoint", "view_webhookdelivery")
    act(looking, ENDPOINTS, "disable_selected", endpoint)
    endpoint.refresh_from_db()
    assert endpoint.is_enabled
    assert operator().get(DELIVERIES).status_code == 403
