"""Probes, workers, statistics and dead letters."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tasks_app.execution.outcomes import own_frame
from tasks_app.models import Task, Tenant
from tests.factories import make_key, make_task, make_tenant, make_worker, task_state
from tests.integration.api_client import Api

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/api/v1/livez", "/api/v1/readyz"])
def test_probes_answer_without_a_key(path: str) -> None:
    assert Client().get(path).status_code == 200


def test_health_names_every_part_and_fails_while_one_is_missing(valkey: Any) -> None:
    from tasks_app.engine_loops import engine_loops
    from tasks_app.services.health import forget_health

    forget_health()
    response = Client().get("/health")
    parts = response.json()["parts"]
    assert set(parts) == {"database", "broker", "cache", "engine", "workers", "beat"}
    assert [name for name in parts if parts[name]["status"] != "ok"] == ["engine", "workers"]
    assert response.status_code == 503
    make_worker()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskmill_leader (loop, holder, token, expires_at)"
            " SELECT l, 'h', 1, taskmill_now() + interval '1 min'"
            " FROM unnest(%s::text[]) AS l",
            [list(engine_loops())],
        )
    forget_health()
    response = Client().get("/health")
    assert (response.status_code, response.json()["status"]) == (200, "ok")
    assert "sock" not in response.content.decode()


def test_workers_are_listed_with_their_status(api: Api) -> None:
    worker_id = make_worker("orders", slots=4)
    lost = make_worker()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_worker SET last_seen_at = last_seen_at - interval '1 h' WHERE id = %s",
            [lost],
        )
    rows = {row["id"]: row for row in api.get("/workers").json()["results"]}
    assert (rows[worker_id]["status"], rows[worker_id]["slots"]) == ("online", 4)
    assert rows[lost]["status"] == "lost"


def test_statistics_count_and_measure_the_tenants_own_tasks(api: Api, tenant: Tenant) -> None:
    for state in ("queued", "running", "success", "success", "success", "failed", "cancelled"):
        make_task(tenant, state=state, type="tests.echo")
    make_task(make_tenant("other"), state="failed")
    body = api.get("/stats?window=1h").json()
    assert body["totals"]["by_status"] == {
        "pending": 1, "processing": 1, "success": 3, "failed": 1, "error": 0, "cancelled": 1,
        "timeout": 0,
    }  # fmt: skip
    assert body["finished"]["count"] == 5
    assert body["finished"]["success_rate"] == 0.75
    assert body["finished"]["run"]["p95"] >= 0
    [group] = body["types"]
    assert (group["type"], group["pending"], group["processing"]) == ("tests.echo", 1, 1)
    assert group["finished"]["by_status"]["success"] == 3
    assert not body["totals"]["capped"]


def test_statistics_leave_out_what_was_submitted_before_the_window(
    api: Api, tenant: Tenant
) -> None:
    task_id = make_task(tenant, state="success")
    Task.objects.filter(pk=task_id).update(created_at="2020-01-01T00:00:00Z")
    assert api.get("/stats?window=7d").json()["finished"]["count"] == 0
    assert api.get("/stats?window=2h").status_code == 422


def test_statistics_of_nothing_are_zero(api: Api) -> None:
    body = api.get("/stats").json()
    assert (body["finished"]["count"], body["finished"]["success_rate"]) == (0, None)


def test_dead_letters_are_paged_in_both_directions(api: Api, tenant: Tenant) -> None:
    made = [str(make_task(tenant, state="failed")) for _ in range(5)]
    first = api.get("/dead-letters?limit=2").json()
    second = api.get(path_of(first["next"])).json()
    third = api.get(path_of(second["next"])).json()
    pages = [[row["id"] for row in page["results"]] for page in (first, second, third)]
    assert [one for page in pages for one in page] == made[::-1]
    assert (first["previous"], third["next"]) == (None, None)
    back = api.get(path_of(second["previous"])).json()
    assert [row["id"] for row in back["results"]] == pages[0]
    assert back["previous"] is None


def path_of(url: str) -> str:
    return url[url.index("/api") :]


def test_a_cursor_of_another_tenant_or_a_damaged_one_is_refused(api: Api, tenant: Tenant) -> None:
    for _ in range(2):
        make_task(tenant, state="failed")
    url = path_of(api.get("/dead-letters?limit=1").json()["next"])
    assert Api(make_key(make_tenant("other"))).get(url).status_code == 422
    assert api.get(url[:-2] + "AA").status_code == 422
    assert api.get("/dead-letters?cursor=%00").status_code == 422
    assert api.get("/dead-letters?limit=0").status_code == 422
    assert api.get("/dead-letters?limit=201").status_code == 422


def test_a_cursor_of_another_list_is_refused(api: Api, tenant: Tenant) -> None:
    for _ in range(2):
        make_task(tenant, state="failed")
    cursor = api.get("/tasks?limit=1").json()["next"].partition("cursor=")[2]
    assert api.get(f"/dead-letters?cursor={cursor}").status_code == 422
    assert api.get(f"/tasks?cursor={cursor}").status_code == 200


@pytest.mark.parametrize("name", ["type", "queue", "code"])
def test_a_filter_that_cannot_be_stored_is_refused(api: Api, name: str) -> None:
    assert api.get(f"/dead-letters?{name}=a%00b").status_code == 422


def test_dead_letters_are_filtered_and_grouped_by_cause(api: Api, tenant: Tenant) -> None:
    for queue in ("a", "b", "b"):
        make_task(tenant, state="failed", queue=queue)
    make_task(tenant, state="error", type="tests.order")
    make_task(tenant, state="success")
    assert len(api.get("/dead-letters?queue=b").json()["results"]) == 2
    assert api.get("/dead-letters?code=NOPE").json()["results"] == []
    groups = api.get("/dead-letters?group=true").json()["results"]
    assert [(group["type"], group["code"], group["count"]) for group in groups] == [
        ("tests.echo", "HANDLER_ERROR", 3),
        ("tests.order", "HANDLER_ERROR", 1),
    ]
    assert sorted(groups[0]["queues"]) == ["a", "b"]
    assert groups[0]["first_seen_at"] <= groups[0]["last_seen_at"]


@pytest.mark.parametrize(
    "path", ["/dead-letters", "/dead-letters?group=true", "/dead-letters?type=tests.echo", "/stats"]
)
def test_nothing_of_another_tenant_is_ever_listed_or_counted(api: Api, path: str) -> None:
    before = api.get(path).json()
    make_task(make_tenant("other"), state="failed")
    assert api.get(path).json() == before


def test_the_frame_of_a_group_is_the_handlers_own() -> None:
    text = (
        'Traceback (most recent call last):\n  File "/app/tasks_app/execution/calling.py", line 1,'
        ' in call\n  File "/app/orders/handlers.py", line 7, in charge\n'
        '  File "/x/site-packages/httpx/_client.py", line 9, in send\nOSError: no\n'
    )
    assert own_frame(text) == "orders/handlers.py in charge"
    assert own_frame("") is None


def test_dead_letters_are_retried_by_id_or_filter_within_the_tenant(
    api: Api, tenant: Tenant
) -> None:
    mine, other = make_task(tenant, state="failed"), make_task(tenant, state="timeout", queue="b")
    foreign = make_task(make_tenant("other"), state="failed")
    answer = api.post("/dead-letters/retry", {"ids": [str(mine), str(foreign)]})
    assert (answer.status_code, answer.json()) == (202, {"count": 1})
    assert (task_state(mine), task_state(foreign)) == ("queued", "failed")
    assert api.post("/dead-letters/retry", {"queue": "b"}).json() == {"count": 1}
    assert task_state(other) == "queued"


def test_dead_letters_are_purged_within_the_tenant(api: Api, tenant: Tenant) -> None:
    mine, alive = make_task(tenant, state="error"), make_task(tenant, state="success")
    foreign = make_task(make_tenant("other"), state="error")
    body = {"ids": [str(one) for one in (mine, alive, foreign)]}
    assert api.post("/dead-letters/purge", body).json() == {"count": 1}
    assert set(Task.objects.values_list("id", flat=True)) == {alive, foreign}


@pytest.mark.parametrize("body", [{}, {"ids": []}, {"status": "success"}, {"all": True}])
def test_an_empty_selection_never_means_everything(api: Api, body: Any) -> None:
    assert api.post("/dead-letters/purge", body).status_code == 422
