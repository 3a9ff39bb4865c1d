"""The Django admin as a browser sees it: every page, who may do what, and what is never shown."""

from __future__ import annotations

import html
import re
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import reverse

from tasks_app import progress, transitions
from tasks_app.models import Event, Leader, StaleResult, Task
from tests.factories import (
    claim,
    drive,
    make_key,
    make_task,
    make_tenant,
    make_worker,
    task_column,
    task_state,
)

pytestmark = pytest.mark.django_db
LIST = "/admin/tasks_app/task/"
POLYGLOT = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}</pre>"


def act(client: Client, action: str, *task_ids: uuid.UUID, **fields: str) -> list[str]:
    """Run an action of the list; gives the messages shown after it."""
    data = {"action": action, "_selected_action": [str(one) for one in task_ids], "index": "0"}
    answer = client.post(LIST, data | fields, follow=True)
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


def rows_of(answer: Any) -> list[uuid.UUID]:
    """The ids of the tasks that a list page shows, in order."""
    return [task.id for task in answer.context["cl"].result_list]


def test_every_page_of_the_admin_loads(admin_client: Client) -> None:
    for state in ("queued", "running", "failed", "success"):
        make_task(state=state)
    make_worker()
    make_key()
    Leader.objects.create(loop="dispatch", holder="h", token=1, expires_at="2027-01-01T00:00Z")
    StaleResult.objects.create(
        task_id=uuid.uuid4(), epoch=1, verb="succeed", worker="w", at="2027-01-01T00:00Z"
    )
    assert "Taskmill" in admin_client.get("/admin/").content.decode()
    for model, site in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        pages = [reverse(f"{name}_changelist")]
        if site.has_add_permission(_superuser_request(admin_client)):
            pages.append(reverse(f"{name}_add"))
        pages += [reverse(f"{name}_change", args=[row.pk]) for row in model.objects.all()[:1]]
        for page in pages:
            assert admin_client.get(page).status_code == 200, page


def _superuser_request(client: Client) -> Any:
    return client.get("/admin/").wsgi_request


def test_the_admin_offers_the_schedules_and_results_of_celery(admin_client: Client) -> None:
    page = admin_client.get("/admin/").content.decode()
    for part in ("django_celery_beat/periodictask", "django_celery_results/taskresult"):
        assert f"/admin/{part}/" in page
    assert "idempotency" not in page.lower()


def test_a_task_shows_its_history(admin_client: Client) -> None:
    task_id = make_task(state="running", payload={"order": 42}, tags=["vip"])
    epoch = Task.objects.get(id=task_id).epoch
    with connection.cursor() as cursor:
        progress.save_progress(
            cursor, task_id, epoch=epoch, percent=40, message="half way", detail=None
        )
        progress.append_log(
            cursor,
            task_id,
            epoch=epoch,
            number=1,
            size_bytes=60,
            lines='[{"at": "12:00", "level": "info", "message": "charged", "fields": {"n": 1}}]',
        )
        transitions.fail(
            cursor,
            task_id,
            epoch=epoch,
            state="failed",
            error='{"code": "E1"}',
            traceback="Traceback (most recent call last)",
        )
    page = html.unescape(admin_client.get(f"{LIST}{task_id}/change/").content.decode())
    for part in ('"order": 42', "vip", "task.created", "task.progress", "half way", "charged"):
        assert part in page
    for part in ("task.failed", '"code": "E1"', "Traceback (most recent call last)", "tests:1"):
        assert part in page
    assert 'name="_save"' not in page
    assert "retry_selected" in page
    assert "cancel_selected" not in page


def test_only_the_newest_of_a_long_history_is_shown(admin_client: Client) -> None:
    task_id = make_task()
    tenant_id = task_column(task_id, "tenant_id")
    Event.objects.bulk_create(
        Event(
            task_id=task_id,
            tenant_id=tenant_id,
            seq=seq,
            type="task.progress",
            state="queued",
            epoch=0,
            attempt=0,
            at="2027-01-01T00:00Z",
            data={"message": f"report-{seq}."},
        )
        for seq in range(2, 302)
    )
    page = admin_client.get(f"{LIST}{task_id}/change/").content.decode()
    assert "report-301." in page
    assert "report-102." in page
    assert "report-101." not in page
    assert "Only the newest are shown." in page


def test_rows_cannot_be_added_changed_or_deleted(admin_client: Client) -> None:
    task_id = make_task()
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.get(f"{LIST}{task_id}/delete/").status_code == 403
    admin_client.post(f"{LIST}{task_id}/change/", {"state": "success", "queue": "other"})
    assert task_state(task_id) == "queued"
    assert task_column(task_id, "queue") == "default"
    assert act(admin_client, "delete_selected", task_id) == ["No action selected."]
    assert Task.objects.filter(id=task_id).exists()


def test_cancelling_goes_through_the_service_with_the_user_as_actor(admin_client: Client) -> None:
    pending, running = make_task(), make_task(state="running")
    done = make_task(state="success")
    shown = act(admin_client, "cancel_selected", pending, running, done)
    assert (task_state(pending), task_state(running)) == ("cancelled", "cancelling")
    assert sorted(shown[0].split(", ")) == ["1 task asked to stop", "1 task cancelled"]
    assert shown[1] == f"1 task refused ({done}): the task is success; it cannot be cancelled"
    event = Event.objects.get(task_id=pending, type="task.cancelled")
    assert event.actor == "admin:admin"


def test_retrying_queues_a_failed_task_and_refuses_others(admin_client: Client) -> None:
    failed, queued = make_task(state="failed"), make_task()
    shown = act(admin_client, "retry_selected", failed, queued)
    assert task_state(failed) == "queued"
    assert shown == [
        "1 task queued again",
        f"1 task refused ({queued}): the task is queued; only a failed one is retried",
    ]


def test_tasks_of_several_tenants_are_acted_on_at_once(admin_client: Client) -> None:
    tasks = [make_task(make_tenant()) for _ in range(3)]
    assert act(admin_client, "cancel_selected", *tasks) == ["3 tasks cancelled"]


def test_a_whole_filter_can_be_acted_on(admin_client: Client) -> None:
    tasks = [make_task(state="failed") for _ in range(60)]
    other = make_task(state="cancelled")
    fields = {"action": "retry_selected", "_selected_action": [str(tasks[0])], "index": "0"}
    address = f"{LIST}?state=failed"
    answer = admin_client.post(address, fields | {"select_across": "1"}, follow=True)
    assert [str(message) for message in answer.context["messages"]] == ["60 tasks queued again"]
    assert {task_state(one) for one in tasks} == {"queued"}
    assert task_state(other) == "cancelled"


def test_staff_without_permission_see_and_do_nothing(staff: Callable[..., Client]) -> None:
    task_id = make_task()
    client = staff()
    assert client.get(LIST).status_code == 403
    assert client.get(f"{LIST}{task_id}/change/").status_code == 403
    answer = client.post(
        LIST, {"action": "cancel_selected", "_selected_action": str(task_id), "index": "0"}
    )
    assert answer.status_code == 403
    assert task_state(task_id) == "queued"


def test_staff_who_may_view_cannot_act(staff: Callable[..., Client]) -> None:
    task_id = make_task()
    client = staff("view_task")
    assert rows_of(client.get(LIST)) == [task_id]
    page = client.get(f"{LIST}{task_id}/change/").content.decode()
    assert "cancel_selected" not in page
    assert act(client, "cancel_selected", task_id) == []
    assert task_state(task_id) == "queued"


def test_staff_who_may_operate_act(staff: Callable[..., Client]) -> None:
    task_id = make_task()
    client = staff("view_task", "operate_task")
    assert "cancel_selected" in client.get(f"{LIST}{task_id}/change/").content.decode()
    assert act(client, "cancel_selected", task_id) == ["1 task cancelled"]


def test_an_anonymous_visitor_is_sent_to_the_login() -> None:
    answer = Client().get(LIST)
    assert answer.status_code == 302
    assert answer.url.startswith("/admin/login/")


@pytest.mark.parametrize(
    ("query", "states"),
    [
        ("state=pending", {"queued", "retrying"}),
        ("state=processing", {"running"}),
        ("state=dead", {"failed", "timeout"}),
        ("state=failed", {"failed"}),
        ("state=nonsense", set()),
        ("", {"queued", "retrying", "running", "failed", "timeout", "success"}),
    ],
)
def test_the_list_is_filtered_by_state(admin_client: Client, query: str, states: set[str]) -> None:
    made = [
        make_task(make_tenant(), state=state)
        for state in ("queued", "retrying", "running", "failed", "timeout", "success")
    ]
    shown = rows_of(admin_client.get(f"{LIST}?{query}"))
    assert {task_state(one) for one in shown} == states
    assert shown == [one for one in reversed(made) if one in shown]


def test_the_list_is_filtered_by_type_queue_tenant_and_time(admin_client: Client) -> None:
    mine, other = make_tenant(), make_tenant()
    first = make_task(mine, type="demo.echo", queue="red")
    second = make_task(mine, type="demo.slow", queue="blue")
    third = make_task(other, type="demo.echo", queue="blue")
    old = make_task(other, id=uuid.UUID("01880000-0000-7000-8000-000000000000"))

    def shown(query: str) -> list[uuid.UUID]:
        return rows_of(admin_client.get(f"{LIST}?{query}"))

    assert shown("type=demo.echo") == [third, first]
    assert shown("queue=blue") == [third, second]
    assert shown(f"tenant={mine.id}") == [second, first]
    assert shown(f"tenant={mine.id}&type=demo.echo&queue=red&state=queued") == [first]
    assert shown("submitted=hour") == [third, second, first]
    assert shown("") == [third, second, first, old]
    assert shown("type=demo.echo&q=demo.slow") == []
    assert shown("tenant=999999999999999999999") == []
    assert shown("type=%00&queue=%00") == [third, second, first, old]


def test_a_task_is_found_by_its_id_the_beginning_of_it_or_its_type(admin_client: Client) -> None:
    task_id = make_task(type="demo.echo")
    other = make_task(type="demo.slow", id=uuid.UUID("01880000-0000-7000-8000-000000000000"))

    def found(text: str) -> list[uuid.UUID]:
        return rows_of(admin_client.get(LIST, {"q": text}))

    assert found(str(task_id)) == [task_id]
    assert found(task_id.hex.upper()) == [task_id]
    assert found("01880000-0000-7") == [other]
    assert found("demo.echo") == [task_id]
    assert found("demo") == []
    assert found("x' OR 1=1 --") == []
    assert found("\x00") == [task_id, other]


def test_pages_follow_each_other_without_a_count(admin_client: Client) -> None:
    made = [make_task() for _ in range(120)][::-1]
    pages = [rows_of(admin_client.get(LIST, {"p": str(number)})) for number in (1, 2, 3)]
    assert [len(page) for page in pages] == [50, 50, 20]
    assert [one for page in pages for one in page] == made
    for beyond in ("4", "0", "-1", "999999999", "x"):
        answer = admin_client.get(LIST, {"p": beyond}, follow=True)
        assert answer.status_code == 200


def test_the_order_cannot_be_changed_to_one_without_an_index(admin_client: Client) -> None:
    made = [make_task() for _ in range(3)][::-1]
    assert rows_of(admin_client.get(LIST, {"o": "8.-3"})) == made


def test_the_number_of_queries_does_not_grow_with_the_rows(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    for _ in range(60):
        make_task(make_tenant(), state="failed")
    for query in ("", "state=dead&type=tests.echo", "q=0199"):
        with django_assert_max_num_queries(6):
            admin_client.get(f"{LIST}?{query}")
    task_id = make_task(state="failed")
    with django_assert_max_num_queries(8):
        admin_client.get(f"{LIST}{task_id}/change/")


def test_what_clients_wrote_is_shown_and_never_run(admin_client: Client) -> None:
    task_id = make_task(
        payload={POLYGLOT: POLYGLOT},
        metadata={"note": POLYGLOT},
        tags=[POLYGLOT[:60]],
        unique_key=POLYGLOT,
        submitted_by=POLYGLOT,
    )
    drive(task_id, "dispatched")
    epoch = claim(task_id)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_task SET worker = %s WHERE id = %s", [POLYGLOT, task_id])
        progress.save_progress(
            cursor, task_id, epoch=epoch, percent=1, message=POLYGLOT, detail=None
        )
        lines = [
            {"at": POLYGLOT, "level": POLYGLOT, "message": POLYGLOT, "fields": {"a": POLYGLOT}}
        ]
        progress.append_log(
            cursor, task_id, epoch=epoch, number=1, size_bytes=9, lines=_json(lines)
        )
        error = {"code": POLYGLOT[:20], "type": POLYGLOT, "message": POLYGLOT}
        transitions.fail(
            cursor,
            task_id,
            epoch=epoch,
            state="failed",
            error=_json(error),
            traceback=POLYGLOT,
        )
    for address in (f"{LIST}{task_id}/change/", LIST):
        page = admin_client.get(address).content.decode()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert not re.search(r"title=\"[^\"]*'><", page)
    assert "{{7*7}}" in page


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def test_a_large_payload_is_cut_with_a_hint(admin_client: Client) -> None:
    task_id = make_task(payload={"text": "x" * 200_000})
    page = admin_client.get(f"{LIST}{task_id}/change/").content.decode()
    assert "more characters; the API gives them all" in page
    assert len(page) < 150_000


def test_a_worker_without_a_sign_of_life_is_lost(admin_client: Client) -> None:
    make_worker("default")
    address = "/admin/tasks_app/workerprocess/"
    assert "online" in admin_client.get(address).content.decode()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_worker SET last_seen_at = now() - interval '1 minute'")
    assert "lost" in admin_client.get(address).content.decode()
