"""Dead letters by cause in the admin: shown, retried at a pace, aborted, purged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tasks_app.models import PacedRetry, Task, Tenant
from tests.factories import make_task, make_tenant
from tests.integration.test_dead_letters import dead

pytestmark = pytest.mark.django_db
PAGE = "/admin/tasks_app/pacedretry/"
CAUSES = f"{PAGE}causes/"


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


def said(answer: Any) -> str:
    return " ".join(str(message) for message in answer.context["messages"])


def group_of(client: Client, tenant: Tenant, code: str) -> Any:
    groups = client.get(f"{CAUSES}?tenant={tenant.pk}").context["groups"]
    return next(one for one in groups if one["code"] == code)


def test_causes_are_shown_to_those_who_may_see_tasks_and_acted_on_by_operators(
    staff: Callable[..., Client], tenant: Tenant
) -> None:
    dead(tenant, frame="<script>.py in x")
    dead(make_tenant("other"), code="OTHER")
    viewer, operator = staff("view_task"), staff("view_task", "operate_task", "view_pacedretry")
    page = viewer.get(f"{CAUSES}?tenant={tenant.pk}").content.decode()
    assert "NO_STOCK" in page
    assert "&lt;script&gt;.py in x" in page
    assert "<script>.py" not in page
    assert "OTHER" not in page
    assert 'value="purge"' not in page
    body = {"action": "retry", "group_id": group_of(viewer, tenant, "NO_STOCK")["id"]}
    address = f"{CAUSES}?tenant={tenant.pk}"
    assert viewer.post(address, body).status_code == 403
    assert staff("view_pacedretry").get(CAUSES).status_code == 403
    assert Client().get(CAUSES).status_code == 302
    assert not PacedRetry.objects.exists()
    answer = operator.post(address, body | {"per_second": "2.5"}, follow=True)
    assert said(answer) == "Retrying 1 at 2.5 a second."
    retry = PacedRetry.objects.get()
    assert (retry.tenant, retry.per_second, retry.state) == (tenant, 2.5, "running")
    assert retry.created_by.startswith("admin:staff-")
    assert "0 retried, 0 skipped of 1" in operator.get(PAGE).content.decode()
    abort = {"action": "abort_selected", "_selected_action": [str(retry.pk)], "index": "0"}
    assert said(operator.post(PAGE, abort, follow=True)) == f"{retry.pk} aborted."
    assert "the paced retry is aborted" in said(operator.post(PAGE, abort, follow=True))


def test_a_group_is_purged_and_a_wrong_form_does_nothing(
    staff: Callable[..., Client], tenant: Tenant
) -> None:
    gone, kept = dead(tenant), dead(tenant, code="KEPT")
    operator = staff("view_task", "operate_task")
    address = f"{CAUSES}?tenant={tenant.pk}"
    group_id = group_of(operator, tenant, "NO_STOCK")["id"]
    for wrong in ({"group_id": "x"}, {"per_second": "0"}, {"action": "burn"}):
        form = {"action": "retry", "group_id": group_id} | wrong
        assert next(iter(wrong)) in said(operator.post(address, form, follow=True))
    assert not PacedRetry.objects.exists()
    body = {"action": "purge", "group_id": group_id}
    assert said(operator.post(address, body, follow=True)) == "1 purged."
    assert list(Task.objects.values_list("id", flat=True)) == [kept]
    assert gone != kept
    for nobody in ("0", "x"):
        assert operator.get(f"{CAUSES}?tenant={nobody}").status_code == 404


def test_without_a_choice_the_first_tenant_is_shown(staff: Callable[..., Client]) -> None:
    viewer = staff("view_task")
    assert viewer.get(CAUSES).status_code == 200
    for slug in ("mmm", "aaa", "zzz"):
        make_task(make_tenant(slug), state="failed")
    assert viewer.get(CAUSES).context["tenant"].slug == "aaa"
