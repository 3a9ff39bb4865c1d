"""Reading tasks over HTTP: one, many, and what they left behind."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection

from tasks_app import progress
from tasks_app.models import Task, Tenant
from tasks_app.states import State, status_of
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import drive, make_key, make_task, make_tenant, make_worker, task_column
from tests.integration.api_client import Api, pointers

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [task["id"] for task in response.json()["results"]]


@pytest.mark.parametrize("state", list(State))
def test_every_state_is_shown_with_its_status(api: Api, tenant: Tenant, state: State) -> None:
    response = api.get(f"/tasks/{make_task(tenant, state=state)}")
    task = response.json()
    assert (task["state"], task["status"]) == (state, status_of(state))
    assert task["done"] == (task["finished_at"] is not None)
    assert ("Retry-After" in response.headers) == (not task["done"])
    assert response.headers["ETag"] == f'"{task["version"]}"'


def test_a_known_version_is_answered_with_304(api: Api, tenant: Tenant) -> None:
    path = f"/tasks/{make_task(tenant)}"
    etag = api.get(path).headers["ETag"]
    for known in (etag, f'"99", {etag}', f"W/{etag}", "*"):
        same = api.get(path, If_None_Match=known)
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    assert api.get(path, If_None_Match='"99"').status_code == 200


def test_what_does_not_exist_is_one_and_the_same_404(api: Api) -> None:
    foreign = make_task(make_tenant("other"))
    bodies = []
    for task_id in (foreign, uuid.uuid4(), "5", "zzz", "1" * 400, str(foreign).replace("-", "")):
        response = api.get(f"/tasks/{task_id}")
        assert response.status_code == 404
        body = response.json()
        bodies.append({name: body[name] for name in body if name not in {"instance", "request_id"}})
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0]["code"] == "task_not_found"


def test_a_waiting_task_says_why(api: Api, tenant: Tenant) -> None:
    def reasons(task_id: uuid.UUID) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = api.get(f"/tasks/{task_id}").json()["waiting"]
        return found

    early = make_task(tenant, state="scheduled")
    assert [reason["reason"] for reason in reasons(early)] == ["not_before", "no_worker"]
    make_worker("default")
    assert [reason["reason"] for reason in reasons(early)] == ["not_before"]
    first, second = make_task(tenant), make_task(tenant)
    urgent = make_task(tenant, priority=5)
    assert reasons(urgent) == []
    assert reasons(first) == [{"reason": "behind", "position": 1, "estimated_start": None}]
    assert reasons(second) == [{"reason": "behind", "position": 2, "estimated_start": None}]
    limited = {"concurrency_key": "k", "max_concurrency": 1}
    holder = make_task(tenant, state="running", **limited)
    parked = make_task(tenant, state="blocked", **limited)
    make_task(make_tenant("other"), state="running", **limited)
    wanted = {"key": "k", "type": None, "used": 1, "limit": 1, "holders": [str(holder)]}
    assert reasons(parked) == [{"reason": "concurrency_limit"} | wanted]
    assert api.get(f"/tasks/{holder}").json()["waiting"] is None


def test_the_list_gives_the_newest_first_in_pages_forth_and_back(api: Api, tenant: Tenant) -> None:
    made = [str(make_task(tenant)) for _ in range(5)]
    make_task(make_tenant("other"))
    newest = made[::-1]
    assert ids(api.get("/tasks")) == newest
    assert ids(api.get("/tasks?sort=created_at")) == made
    first = api.get("/tasks?limit=2").json()
    assert first["previous"] is None
    second = api.get(path_of(first["next"])).json()
    last = api.get(path_of(second["next"])).json()
    pages = [[task["id"] for task in page["results"]] for page in (first, second, last)]
    assert pages == [newest[:2], newest[2:4], newest[4:]]
    assert last["next"] is None
    assert ids(api.get(path_of(last["previous"]))) == newest[2:4]
    assert api.get(path_of(second["previous"])).json()["previous"] is None
    skipped = api.get("/tasks?limit=2&offset=1").json()
    assert [task["id"] for task in skipped["results"]] == newest[1:3]
    assert ids(api.get(path_of(skipped["next"]))) == newest[3:]


def path_of(url: str) -> str:
    return "/api/" + url.split("/api/", 1)[1]


def test_finished_tasks_are_listed_by_their_end(api: Api, tenant: Tenant) -> None:
    made = [make_task(tenant) for _ in range(4)]
    for number, place in enumerate((2, 0, 3)):
        drive(made[place], "success")
        Task.objects.filter(id=made[place]).update(finished_at=f"2030-01-01T00:00:0{number}Z")
    ended = [str(made[2]), str(made[0]), str(made[3])]
    assert ids(api.get("/tasks?sort=finished_at")) == ended
    page = api.get("/tasks?sort=-finished_at&limit=2").json()
    assert [task["id"] for task in page["results"]] == ended[:0:-1]
    assert ids(api.get(path_of(page["next"]))) == ended[:1]
    assert ids(api.get("/tasks?sort=-finished_at&status=pending")) == []
    moved = path_of(page["next"]).replace("-finished_at", "created_at")
    assert pointers(api.get(moved)) == ["/query/cursor"]


def test_each_filter_gives_its_tasks(api: Api, tenant: Tenant) -> None:
    tasks = {
        "plain": make_task(tenant),
        "typed": make_task(tenant, type="tests.order"),
        "queued": make_task(tenant, queue="mail"),
        "tagged": make_task(tenant, tags=["vip", "eu"]),
        "keyed": make_task(tenant, concurrency_key="k", max_concurrency=1),
        "planned": make_task(tenant, schedule="nightly"),
        "running": make_task(tenant, state="running"),
        "failed": make_task(tenant, state="failed"),
    }
    everything = set(tasks)
    early = task_column(tasks["plain"], "created_at").isoformat().replace("+00:00", "Z")
    plain = str(tasks["plain"])

    def found(query: str) -> set[str]:
        listed = ids(api.get(f"/tasks?{query}"))
        return {name for name in tasks if str(tasks[name]) in listed}

    assert found("type=tests.order") == {"typed"}
    assert found("queue=mail") == {"queued"}
    assert found("tag=vip") == found("tag=vip&tag=eu") == {"tagged"}
    assert found("tag=vip&tag=us") == set()
    assert found("concurrency_key=k") == {"keyed"}
    assert found("schedule=nightly") == {"planned"}
    assert found("status=processing") == {"running"}
    assert found("status=failed,processing") == {"running", "failed"}
    assert found("status=pending") == everything - {"running", "failed"}
    assert found("state=failed&state=running") == {"running", "failed"}
    assert found("status=processing&state=running") == {"running"}
    assert found("q=tests.order") == {"typed"}
    assert found(f"q={plain}") == {"plain"}
    assert found(f"q={plain[:13]}") >= {"plain"}
    assert found("created_after=2020-01-01T00:00:00Z") == everything
    assert found("created_before=2020-01-01T00:00:00Z") == set()
    assert found(f"created_before={early}") == set()
    assert found("type=tests.echo&queue=default&status=failed") == {"failed"}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("statsu=failed", "statsu"),
        ("status=done", "status"),
        ("state=finished", "state"),
        ("status=failed&state=running", "state"),
        ("created_after=yesterday", "created_after"),
        ("created_before=2026-01-01T00:00:00", "created_before"),
        ("sort=priority", "sort"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("offset=10001", "offset"),
        ("offset=-1", "offset"),
        ("offset=" + "0" * 12 + "9" * 20, "offset"),
        ("limit=" + "0" * 12 + "9" * 5000, "limit"),
        ("cursor=abc", "cursor"),
        ("count=yes", "count"),
        ("tag=%00", "tag"),
        ("queue=", "queue"),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(api: Api, query: str, name: str) -> None:
    response = api.get(f"/tasks?{query}")
    assert response.status_code == 422
    assert pointers(response) == [f"/query/{name}"]


def test_a_cursor_of_another_tenant_is_refused(api: Api, tenant: Tenant) -> None:
    for _ in range(2):
        make_task(tenant)
    url = path_of(api.get("/tasks?limit=1").json()["next"])
    assert pointers(Api(make_key(make_tenant("other"))).get(url)) == ["/query/cursor"]


def test_the_count_stops_at_ten_thousand(api: Api, tenant: Tenant) -> None:
    for _ in range(3):
        make_task(tenant)
    few = api.get("/tasks?count=true&limit=1").json()
    assert (few["count"], few["count_is_capped"]) == (3, False)
    with connection.cursor() as cursor:
        copy_task(cursor, 10_000)
    many = api.get("/tasks?count=true&limit=1&status=pending").json()
    assert (many["count"], many["count_is_capped"]) == (10_000, True)


def copy_task(cursor: Any, times: int) -> None:
    columns = [field.column for field in Task._meta.concrete_fields if field.column != "id"]
    names = ", ".join(columns)
    cursor.execute(
        f"INSERT INTO taskmill_task (id, {names}) SELECT gen_random_uuid(), {names}"
        " FROM (SELECT * FROM taskmill_task LIMIT 1) t, generate_series(1, %s)",
        [times],
    )


def test_a_page_costs_the_same_statements_whatever_its_length(
    api: Api, tenant: Tenant, django_assert_max_num_queries: Any
) -> None:
    for _ in range(30):
        make_task(tenant, tags=["x"])
    api.get("/tasks?limit=1")
    with django_assert_max_num_queries(1):
        assert len(ids(api.get("/tasks?limit=200"))) == 30


def test_the_result_is_raw_json_once_there_is_one(api: Api, tenant: Tenant) -> None:
    done = api.get(f"/tasks/{make_task(tenant, state='success')}/result")
    assert (done.status_code, done.json()) == (200, {"ok": True})
    early = api.get(f"/tasks/{make_task(tenant)}/result")
    assert (early.status_code, early.json()["code"]) == (409, "not_finished")
    failed = api.get(f"/tasks/{make_task(tenant, state='failed')}/result")
    assert (failed.status_code, failed.json()["code"]) == (409, "state_conflict")
    assert failed.json()["error"]["code"] == "HANDLER_ERROR"


def test_events_are_cloud_events_in_order_from_a_sequence(api: Api, tenant: Tenant) -> None:
    task_id = make_task(tenant, state="failed")
    body = api.get(f"/tasks/{task_id}/events").json()
    types = [event["type"] for event in body["results"]]
    assert (types[0], types[-1]) == ("task.created", "task.failed")
    numbers = [event["sequence"] for event in body["results"]]
    assert numbers == sorted(set(numbers))
    last = body["results"][-1]
    assert (last["specversion"], last["subject"]) == ("1.0", str(task_id))
    assert last["data"]["error"]["code"] == "HANDLER_ERROR"
    assert "traceback" not in str(body)
    rest = api.get(f"/tasks/{task_id}/events?after={numbers[0]}&limit=1").json()
    assert [event["sequence"] for event in rest["results"]] == numbers[1:2]
    assert rest["after"] == numbers[1]
    assert api.get(f"/tasks/{task_id}/events?after={numbers[-1]}").json()["results"] == []


def test_tracebacks_are_for_operators(api: Api, tenant: Tenant) -> None:
    path = f"/tasks/{make_task(tenant, state='failed')}/attempts"
    (attempt,) = api.get(path).json()["results"]
    assert (attempt["outcome"], attempt["attempt"]) == ("failed", 1)
    assert attempt["traceback"] == "Traceback: secret"
    reader = Api(make_key(tenant, scopes=["tasks:read"]))
    assert "secret" not in reader.get(path).content.decode()


def test_log_lines_are_read_on_from_a_line(api: Api, tenant: Tenant) -> None:
    task_id = make_task(tenant, state="running")
    with connection.cursor() as cursor:
        for number in range(2):
            start = '{"at": "2030-01-01T00:00:00Z", "fields": {}, "level": '
            lines = (
                f'[{start}"info", "message": "a{number}"}},'
                f' {start}"error", "message": "b{number}"}}]'
            )
            progress.append_log(cursor, task_id, epoch=1, number=number, size_bytes=9, lines=lines)

    def messages(query: str) -> list[str]:
        found = api.get(f"/tasks/{task_id}/logs?{query}").json()["results"]
        return [line["message"] for line in found]

    first = api.get(f"/tasks/{task_id}/logs?limit=1").json()
    assert first["results"][0]["attempt"] == 1
    assert messages("") == ["a0", "b0", "a1", "b1"]
    assert messages(f"after={first['after']}") == ["b0", "a1", "b1"]
    assert messages("level=warning") == ["b0", "b1"]
    assert messages("attempt=2") == []
    assert pointers(api.get(f"/tasks/{task_id}/logs?after=x")) == ["/query/after"]
    assert pointers(api.get(f"/tasks/{task_id}/logs?level=loud")) == ["/query/level"]


def test_task_types_show_schemas_defaults_and_statistics(api: Api, tenant: Tenant) -> None:
    make_task(tenant, type="tests.order", state="success")
    make_task(tenant, type="tests.order", state="failed")
    listed = {one["type"]: one for one in api.get("/task-types").json()["results"]}
    assert listed["tests.order"]["description"] == "Process an order."
    one = api.get("/task-types/tests.order").json()
    assert one["payload_schema"]["properties"]["order_id"]["minimum"] == 0
    assert one["result_schema"]["properties"]["total"]["type"] == "number"
    assert one["defaults"] == {
        "queue": "orders",
        "priority": 7,
        "max_retry": 1,
        "process_timeout": 30,
        "queue_timeout": 90,
        "retry": {"policy": "fixed", "delay": 2, "jitter": "none"},
    }
    assert one["statistics"]["by_status"] == {"success": 1, "failed": 1}
    assert one["statistics"]["success_rate"] == 0.5
    assert api.get("/task-types/no.such").status_code == 404
