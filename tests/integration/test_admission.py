"""Quotas at the surface: who is refused, what it is told, and that nothing was written."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tasks_app import public
from tasks_app.metrics import SUBMISSIONS_REFUSED
from tasks_app.models import Event, IdempotencyRecord, Queue, SubmissionMeter, Task, Tenant
from tasks_app.platform import ScheduledSubmission, submit_scheduled
from tasks_app.selectors.quotas import forget_quotas
from tasks_app.states import PENDING
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import drive, make_key, make_task, make_tenant, task_column
from tests.integration.api_client import Api, pointers

pytestmark = pytest.mark.django_db
ECHO = {"type": "tests.echo"}


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    forget_quotas()
    yield
    forget_quotas()


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


def limit(tenant: Tenant, **quotas: int | None) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(**quotas)
    forget_quotas()


def refusal(response: Any) -> tuple[Any, ...]:
    assert response.status_code == 429, response.content
    assert int(response.headers["Retry-After"]) >= 1
    body = response.json()
    assert body["code"] == "quota_exceeded"
    return tuple(body[name] for name in ("scope", "queue", "quota", "limit", "used"))


def move_clock(offset: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL taskmill.clock_offset = '{offset}'")


def statuses(api: Api, *bodies: dict[str, Any]) -> list[int]:
    return [api.post("/tasks", body).status_code for body in bodies]


def test_a_tenant_over_its_quota_is_told_which_and_nothing_is_written(
    api: Api, tenant: Tenant
) -> None:
    assert statuses(api, ECHO, ECHO) == [202, 202]
    limit(tenant, max_waiting=2, max_submissions_per_minute=9)
    before = (Task.objects.count(), Event.objects.count())
    refused = api.post("/tasks", ECHO, Idempotency_Key="k")
    assert refusal(refused) == ("tenant", None, "max_waiting", 2, 2)
    assert (Task.objects.count(), Event.objects.count()) == before
    assert not IdempotencyRecord.objects.exists()
    assert not SubmissionMeter.objects.exists()


def test_every_waiting_state_counts_and_no_other(api: Api, tenant: Tenant) -> None:
    for state in sorted(PENDING):
        make_task(tenant, state=state)
    for state in ("running", "success", "failed", "cancelled"):
        make_task(tenant, state=state)
    limit(tenant, max_waiting=len(PENDING) + 1)
    assert statuses(api, ECHO, ECHO) == [202, 429]
    waiting = Task.objects.filter(state="queued").first()
    assert waiting is not None
    drive(waiting.id, "success")
    assert statuses(api, ECHO, ECHO) == [202, 429]


def test_payloads_that_wait_are_counted_in_bytes_of_json(api: Api, tenant: Tenant) -> None:
    limit(tenant, max_waiting_bytes=30)
    body = ECHO | {"payload": {"a": "x" * 11}}
    assert api.post("/tasks", body).status_code == 202
    assert Task.objects.get().payload_bytes == len('{"a":"xxxxxxxxxxx"}')
    assert refusal(api.post("/tasks", body)) == ("tenant", None, "max_waiting_bytes", 30, 19)
    assert statuses(api, ECHO | {"payload": {"a": 123}}) == [202]


def test_a_quota_per_minute_says_when_the_minute_ends(api: Api, tenant: Tenant) -> None:
    limit(tenant, max_submissions_per_minute=2)
    assert statuses(api, ECHO, ECHO) == [202, 202]
    refused = api.post("/tasks", ECHO)
    assert refusal(refused) == ("tenant", None, "max_submissions_per_minute", 2, 2)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    move_clock("59 seconds")
    assert api.post("/tasks", ECHO).headers["Retry-After"] == "1"
    move_clock("60 seconds")
    assert statuses(api, ECHO, ECHO, ECHO) == [202, 202, 429]


def test_quotas_hold_for_one_tenant_alone(api: Api, tenant: Tenant) -> None:
    limit(tenant, max_waiting=1, max_waiting_bytes=10, max_submissions_per_minute=1)
    other = Api(make_key(make_tenant("other")))
    assert statuses(other, ECHO, ECHO) == [202, 202]
    assert statuses(api, ECHO, ECHO) == [202, 429]
    assert statuses(other, ECHO) == [202]


def test_a_queue_s_quotas_hold_for_all_tenants_and_are_changed_live(api: Api) -> None:
    other = Api(make_key(make_tenant("other")))
    red = ECHO | {"queue": "red"}
    assert statuses(api, red) == [202]
    changed = api.patch("/queues/red", {"max_waiting": 2, "max_waiting_bytes": 1000})
    assert (changed.status_code, changed.json()["max_waiting"]) == (200, 2)
    assert statuses(other, red) == [202]
    assert refusal(api.post("/tasks", red)) == ("queue", "red", "max_waiting", 2, 2)
    assert statuses(api, ECHO) == [202]
    api.patch("/queues/red", {"max_waiting": 3})
    assert statuses(api, red, red) == [202, 429]
    api.patch("/queues/red", {"max_waiting": None, "max_submissions_per_minute": 1})
    assert statuses(api, red, red) == [202, 429]
    shown = api.get("/queues/red").json()
    assert (shown["max_waiting"], shown["max_submissions_per_minute"]) == (None, 1)
    for wrong in ({"max_waiting": 0}, {"max_waiting_bytes": "9"}, {"max_waiting": 1_000_001}):
        assert pointers(api.patch("/queues/red", wrong)) == [f"/{next(iter(wrong))}"]


def test_a_full_queue_takes_no_task_from_another_queue(api: Api, tenant: Tenant) -> None:
    Queue.objects.create(name="thin", max_waiting=2, max_waiting_bytes=40)
    Queue.objects.create(name="slow", max_submissions_per_minute=1)
    forget_quotas()
    small, other, large = (
        str(make_task(tenant, queue="wide", payload="x" * (size - len('""'))))
        for size in (11, 12, 30)
    )
    assert api.patch(f"/tasks/{small}", {"queue": "thin"}).status_code == 200
    answer = api.patch(f"/tasks/{large}", {"queue": "thin", "priority": 7})
    assert answer.status_code == 429
    problem = answer.json()
    assert (problem["code"], problem["quota"]) == ("quota_exceeded", "max_waiting_bytes")
    assert (problem["queue"], problem["limit"], problem["used"]) == ("thin", 40, 11)
    assert task_column(uuid.UUID(large), "queue") == "wide"
    assert task_column(uuid.UUID(large), "priority") == 0
    assert api.patch(f"/tasks/{other}", {"queue": "thin"}).status_code == 200
    third = str(make_task(tenant, queue="wide", payload={}))
    full = api.patch(f"/tasks/{third}", {"queue": "thin"})
    assert (full.status_code, full.json()["quota"]) == (429, "max_waiting")
    assert full.headers["Retry-After"] == "5"
    assert api.patch(f"/tasks/{other}", {"queue": "thin", "priority": 2}).status_code == 200
    assert api.patch(f"/tasks/{other}", {"queue": "slow"}).status_code == 200
    assert api.patch(f"/tasks/{third}", {"queue": "thin"}).status_code == 200
    assert api.patch(f"/tasks/{third}", {"queue": "slow"}).status_code == 429


def test_a_queue_counts_what_is_delayed_and_retried_too(api: Api, tenant: Tenant) -> None:
    for state in sorted(PENDING):
        make_task(tenant, state=state, queue="red")
    Queue.objects.create(name="red", max_waiting=len(PENDING))
    forget_quotas()
    refused = api.post("/tasks", ECHO | {"queue": "red"})
    assert refusal(refused) == ("queue", "red", "max_waiting", len(PENDING), len(PENDING))


def test_a_bulk_takes_as_many_as_fit_or_none(api: Api, tenant: Tenant) -> None:
    limit(tenant, max_waiting=2, max_submissions_per_minute=3)
    items = [ECHO | {"metadata": {"n": number}} for number in range(3)]
    whole = api.post("/tasks/bulk", {"items": items, "atomic": True})
    assert refusal(whole) == ("tenant", None, "max_waiting", 2, 2)
    assert not Task.objects.exists()
    assert not SubmissionMeter.objects.exists()
    each = api.post("/tasks/bulk", {"items": items})
    assert each.status_code == 207
    assert [one["status"] for one in each.json()["results"]] == [202, 202, 429]
    assert each.json()["results"][2]["code"] == "quota_exceeded"
    assert sorted(task.metadata["n"] for task in Task.objects.all()) == [0, 1]
    assert SubmissionMeter.objects.get().accepted == 2


def test_a_bulk_s_known_keys_take_no_room(api: Api, tenant: Tenant) -> None:
    unique = ECHO | {"unique": {"key": "k"}}
    assert statuses(api, unique) == [202]
    limit(tenant, max_waiting=2)
    results = api.post("/tasks/bulk", {"items": [unique, ECHO, ECHO]}).json()["results"]
    assert [one["status"] for one in results] == [200, 202, 429]


def test_a_rerun_is_a_submission_and_a_retry_is_none(api: Api, tenant: Tenant) -> None:
    failed = make_task(tenant, state="failed")
    make_task(tenant)
    limit(tenant, max_waiting=1)
    assert api.post(f"/tasks/{failed}/rerun", {}).status_code == 429
    assert api.post(f"/tasks/{failed}/retry", {}).status_code == 202


def test_python_gets_a_typed_error_and_schedules_their_reason(tenant: Tenant) -> None:
    limit(tenant, max_waiting=1)
    handle = public.submit("tests.echo", {}, tenant="acme")
    with pytest.raises(public.QuotaExceeded) as caught:
        public.submit("tests.echo", {}, tenant="acme")
    assert caught.value.fields["quota"] == "max_waiting"
    wanted = ScheduledSubmission(
        tenant_id=tenant.id, schedule="nightly", type="tests.echo", payload={}
    )
    [refused, odd] = submit_scheduled([wanted, wanted])
    assert isinstance(refused, public.QuotaExceeded)
    assert isinstance(odd, public.QuotaExceeded)
    drive(handle.id, "success")
    [accepted, refused] = submit_scheduled([wanted, wanted])
    assert Task.objects.get(id=accepted).schedule == "nightly"
    assert isinstance(refused, public.QuotaExceeded)


def test_what_is_refused_uses_nothing_of_the_minute_though_its_caller_commits(
    tenant: Tenant,
) -> None:
    limit(tenant, max_waiting=1, max_submissions_per_minute=2)
    first = public.submit("tests.echo", {}, tenant="acme")
    for _ in range(3):
        with pytest.raises(public.QuotaExceeded):
            public.submit("tests.echo", {}, tenant="acme")
    drive(first.id, "success")
    second = public.submit("tests.echo", {}, tenant="acme")
    drive(second.id, "success")
    with pytest.raises(public.QuotaExceeded) as caught:
        public.submit("tests.echo", {}, tenant="acme")
    exceeded = (caught.value.fields["quota"], caught.value.fields["used"])
    assert exceeded == ("max_submissions_per_minute", 2)


def test_the_page_s_python_tells_what_was_exceeded(tenant: Tenant) -> None:
    make_tenant("default")
    page = (settings.BASE_DIR / "docs/how-to/limit-and-deduplicate-submissions.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    names: dict[str, Any] = {}
    exec(code.replace("demo.echo", "tests.echo"), names)
    Queue.objects.create(name="thumbnails", max_waiting=1)
    forget_quotas()
    assert Task.objects.filter(id=names["order_thumbnail"](1)).exists()
    assert names["order_thumbnail"](2) == "max_waiting: 1 of 1"


def test_a_live_task_of_the_key_is_given_at_a_full_quota(api: Api, tenant: Tenant) -> None:
    limit(tenant, max_waiting=1)
    unique = ECHO | {"unique": {"key": "k"}}
    assert statuses(api, unique, unique) == [202, 200]
    assert statuses(api, ECHO) == [429]
    replace = ECHO | {"unique": {"key": "k", "on_conflict": "replace"}}
    assert statuses(api, replace) == [202]
    assert Task.objects.filter(finished_at=None).count() == 1


def test_replaced_and_debounced_payloads_are_counted_by_what_they_add(
    api: Api, tenant: Tenant
) -> None:
    limit(tenant, max_waiting=2, max_waiting_bytes=40)

    def sized(size: int, **rule: Any) -> dict[str, Any]:
        return ECHO | {"payload": {"a": "x" * (size - 8)}} | rule

    unique = {"unique": {"key": "k", "on_conflict": "replace"}}
    debounce = {"debounce": {"key": "k", "wait": 60, "max_wait": 60}}
    assert statuses(api, sized(20, **unique), sized(20, **debounce)) == [202, 202]
    assert statuses(api, sized(20, **unique), sized(20, **debounce)) == [202, 200]
    assert statuses(api, sized(21, **unique), sized(21, **debounce)) == [429, 429]
    assert statuses(api, sized(10, **debounce), sized(30, **unique)) == [200, 202]


def test_without_a_quota_a_submission_is_its_one_statement_and_with_one_five(
    tenant: Tenant,
) -> None:
    public.submit("tests.echo", {}, tenant="acme")
    with CaptureQueriesContext(connection) as plain:
        public.submit("tests.echo", {}, tenant="acme")
    assert len(plain) == 1
    limit(tenant, max_waiting=9, max_submissions_per_minute=9)
    public.submit("tests.echo", {}, tenant="acme")
    with CaptureQueriesContext(connection) as limited:
        public.submit("tests.echo", {}, tenant="acme")
    named = [one["sql"] for one in limited if "SAVEPOINT" not in one["sql"]]
    assert len(named) == 4, named


def test_refusals_are_counted_by_whose_and_which(api: Api, tenant: Tenant) -> None:
    counter = SUBMISSIONS_REFUSED.labels("tenant", "max_waiting")
    before = counter._value.get()
    limit(tenant, max_waiting=1)
    assert statuses(api, ECHO, ECHO, ECHO) == [202, 429, 429]
    assert counter._value.get() == before + 2


def test_operators_set_the_quotas_of_tenants_and_queues_in_the_admin(
    admin_client: Client, api: Api, tenant: Tenant
) -> None:
    page = f"/admin/tasks_app/tenant/{tenant.pk}/change/"
    fields = {"name": "Acme", "is_active": "on", "weight": "1", "max_waiting": "2"}
    assert statuses(api, ECHO) == [202]
    assert admin_client.post(page, fields).status_code == 302
    assert statuses(api, ECHO, ECHO) == [202, 429]
    assert admin_client.post(page, fields | {"max_waiting": ""}).status_code == 302
    assert statuses(api, ECHO) == [202]
    assert admin_client.post(page, fields | {"max_waiting": "0"}).status_code == 200
    Queue.objects.create(name="red")
    queue = {"order": "priority", "max_waiting": "1"}
    assert admin_client.post("/admin/tasks_app/queue/red/change/", queue).status_code == 302
    assert statuses(api, *[ECHO | {"queue": "red"}] * 2) == [202, 429]


def test_the_document_names_the_refusal(api: Api) -> None:
    document = api.get("/api/schema").json()
    for path in ("/tasks", "/tasks/bulk", "/task-types/{task_type}/tasks"):
        answer = document["paths"][f"/api/v1{path}"]["post"]["responses"]["429"]
        assert re.search(r"`quota_exceeded`", answer["description"])
        assert "Retry-After" in answer["headers"]
