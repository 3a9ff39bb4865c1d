"""API keys and tenants in the admin: shown once, revoked, never changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tasks_app.errors import NotAuthenticated
from tasks_app.models import ApiKey, Tenant
from tasks_app.services.keys import digest_of, find_caller, forget_principals
from tests.factories import make_key, make_tenant

pytestmark = pytest.mark.django_db
KEYS = "/admin/tasks_app/apikey/"


def make_key_in_admin(client: Client, tenant: Tenant, **fields: Any) -> Any:
    data = {"tenant": tenant.id, "name": "shop", "scopes": ["tasks:read"], "rate_limit": ""}
    return client.post(f"{KEYS}add/", data | fields)


def test_a_new_key_is_shown_once_and_works(admin_client: Client) -> None:
    tenant = make_tenant()
    answer = make_key_in_admin(admin_client, tenant, scopes=["tasks:read", "tasks:submit"])
    token = answer.context["token"]
    assert token in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]

    key = ApiKey.objects.get(tenant=tenant)
    assert key.digest == digest_of(token)
    assert (key.name, key.created_by.username) == ("shop", "admin")
    principal = find_caller(token)
    assert principal.tenant_id == tenant.id
    assert principal.scopes == {"tasks:read", "tasks:submit"}

    secret = token.rsplit("_", 1)[1]
    assert "messages" not in answer.cookies
    for address in (KEYS, f"{KEYS}{key.id}/change/", f"{KEYS}{key.id}/history/"):
        page = admin_client.get(address).content.decode()
        assert secret not in page
        assert key.digest not in page
        assert key.id in page


@pytest.mark.parametrize(
    "wrong",
    [{"scopes": []}, {"scopes": ["everything"]}, {"rate_limit": "many"}, {"name": ""}],
)
def test_a_wrong_key_is_refused(admin_client: Client, wrong: dict[str, Any]) -> None:
    answer = make_key_in_admin(admin_client, make_tenant(), **wrong)
    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors
    assert not ApiKey.objects.exists()


def test_a_revoked_key_is_refused_at_once(admin_client: Client) -> None:
    token = make_key()
    key = ApiKey.objects.get(digest=digest_of(token))
    find_caller(token)
    data = {"action": "revoke_selected", "_selected_action": key.id, "index": "0"}
    answers = [admin_client.post(KEYS, data, follow=True) for _ in range(2)]
    texts = [[str(one) for one in answer.context["messages"]] for answer in answers]
    assert texts == [["1 revoked."], ["1 had been revoked before."]]
    with pytest.raises(NotAuthenticated):
        find_caller(token)


def test_keys_are_neither_changed_nor_deleted(admin_client: Client) -> None:
    make_key()
    key = ApiKey.objects.get()
    admin_client.post(f"{KEYS}{key.id}/change/", {"name": "changed", "scopes": ["tasks:admin"]})
    assert admin_client.post(f"{KEYS}{key.id}/delete/", {"post": "yes"}).status_code == 403
    assert ApiKey.objects.get().name == "tests"


def test_staff_need_the_permission_to_make_and_revoke_keys(staff: Callable[..., Client]) -> None:
    token = make_key()
    key = ApiKey.objects.get()
    viewer = staff("view_apikey")
    assert viewer.get(KEYS).status_code == 200
    assert make_key_in_admin(viewer, make_tenant()).status_code == 403
    data = {"action": "revoke_selected", "_selected_action": key.id, "index": "0"}
    viewer.post(KEYS, data)
    assert find_caller(token)
    staff("change_apikey").post(KEYS, data)
    forget_principals()
    with pytest.raises(NotAuthenticated):
        find_caller(token)


def test_a_deactivated_tenant_is_refused_and_never_deleted(admin_client: Client) -> None:
    tenant = make_tenant()
    token = make_key(tenant)
    find_caller(token)
    address = f"/admin/tasks_app/tenant/{tenant.id}/"
    admin_client.post(f"{address}change/", {"name": "Acme", "slug": "other", "weight": "1"})
    tenant.refresh_from_db()
    assert (tenant.name, tenant.slug, tenant.is_active) == ("Acme", tenant.slug, False)
    assert tenant.slug != "other"
    with pytest.raises(NotAuthenticated):
        find_caller(token)
    assert admin_client.post(f"{address}delete/", {"post": "yes"}).status_code == 403
