"""The queue board over HTTP and in the admin: settings, defaults, numbers of one tenant alone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tasks_app.models import Queue, Task
from tasks_app.registry import get_handler, handler
from tests import task_handlers  # noqa: F401 - registers the types
from tests.engines import new_queue
from tests.factories import make_key, make_task, make_tenant, make_worker, task_state
from tests.integration.api_client import Api, pointers

pytestmark = pytest.mark.django_db
BOARD = "/admin/tasks_app/queue/"


@pytest.fixture
def queue() -> str:
    return new_queue()


@pytest.fixture
def api() -> Api:
    return Api(make_key(make_tenant("acme")))


@pytest.fixture
def plain_type(monkeypatch: pytest.MonkeyPatch) -> str:
    """A type that declares nothing."""
    from tasks_app import registry

    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))

    @handler("tests.plain")
    def plain() -> None: ...

    return get_handler("tests.plain").type


def submitted(api: Api, **body: Any) -> Task:
    answer = api.post("/tasks", body)
    assert answer.status_code == 202, answer.content
    return Task.objects.get(id=answer.json()["id"])


def test_defaults_of_a_queue_override_the_platform_s_and_are_overridden_by_type_and_submission(
    api: Api, queue: str, plain_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "priority": 7,
        "max_retry": 1,
        "process_timeout": 33,
        "queue_timeout": 44,
        "retry": {"policy": "never"},
    }
    assert api.post("/queues", settings | {"name": queue}).status_code == 201
    task = submitted(api, type=plain_type, queue=queue)
    assert (task.priority, task.max_retry, task.process_timeout) == (7, 1, 33)
    assert (task.queue_timeout, task.retry_policy) == (44, {"policy": "never"})
    own = {"priority": 0, "max_retry": 0, "process_timeout": 5, "queue_timeout": 6}
    task = submitted(api, type=plain_type, queue=queue, retry={"policy": "smart"}, **own)
    assert (task.priority, task.max_retry, task.process_timeout) == (0, 0, 5)
    assert (task.queue_timeout, task.retry_policy) == (6, {"policy": "smart"})

    @handler("tests.plain2", queue=queue, priority=-1, max_retry=2, timeout=8, queue_timeout=9)
    def plain2() -> None: ...

    task = submitted(api, type="tests.plain2")
    assert (task.priority, task.max_retry, task.process_timeout) == (-1, 2, 8)
    assert (task.queue_timeout, task.retry_policy) == (9, {"policy": "never"})
    shown = api.get("/task-types/tests.plain2").json()["defaults"]
    assert (shown["priority"], shown["retry"]["policy"]) == (-1, "never")
    task = submitted(api, type=plain_type, queue=new_queue())
    assert (task.priority, task.max_retry, task.process_timeout) == (0, 3, 600)


def test_a_submission_stays_one_statement(api: Api, queue: str, plain_type: str) -> None:
    api.post("/queues", {"name": queue, "priority": 7})
    submitted(api, type=plain_type, queue=queue)
    with CaptureQueriesContext(
        connection,
    ) as found:
        api.post("/tasks", {"type": plain_type, "queue": queue})
    assert [one for one in found.captured_queries if "taskmill_queue" in one["sql"]] == []


def test_a_queue_is_changed_by_a_merge_patch_within_bounds(api: Api, queue: str) -> None:
    api.post("/queues", {"name": queue, "concurrency": 4, "order": "newest"})
    shown = api.patch(f"/queues/{queue}", {"concurrency": None, "window_most": 9}).json()
    assert (shown["concurrency"], shown["window_most"], shown["order"]) == (None, 9, "newest")
    wrong = {"order": "random", "priority": 1001, "concurrency": 0, "colour": "red"}
    answer = api.patch(f"/queues/{queue}", wrong)
    assert sorted(pointers(answer)) == ["/colour", "/concurrency", "/order", "/priority"]
    assert api.post("/queues", {"name": queue}).json()["code"] == "queue_exists"
    assert api.post("/queues", {"name": "No Name"}).status_code == 422
    assert api.patch("/queues/no-such", {}).json()["code"] == "queue_not_found"


def test_only_keys_that_may_write_queues_steer_them(queue: str) -> None:
    make_task(make_tenant("acme"), queue=queue)
    reader = Api(make_key(make_tenant("acme"), ["tasks:read", "tasks:submit", "tasks:admin"]))
    for method, path, body in (
        ("POST", "/queues", {"name": "x"}),
        ("PATCH", f"/queues/{queue}", {}),
        ("POST", f"/queues/{queue}/pause", {}),
        ("POST", f"/queues/{queue}/resume", {}),
    ):
        assert reader.call(method, path, body).json()["code"] == "scope_missing"
    writer = Api(make_key(make_tenant("acme"), ["queues:write"]))
    assert writer.post(f"/queues/{queue}/pause").status_code == 200
    clean = {"grace_period": 0, "status": "failed"}
    assert writer.post(f"/queues/{queue}/clean", clean).status_code == 403


def test_a_waiting_task_says_that_its_queue_is_paused_and_that_no_worker_serves_it(
    api: Api, queue: str
) -> None:
    task_id = make_task(make_tenant("acme"), queue=queue)
    assert [one["reason"] for one in waiting(api, task_id)] == ["no_worker"]
    make_worker(queue)
    assert waiting(api, task_id) == []
    api.post(f"/queues/{queue}/pause", {"reason": "stocktaking"})
    (why,) = waiting(api, task_id)
    assert (why["reason"], why["queue"], why["pause_reason"]) == (
        "queue_paused",
        queue,
        "stocktaking",
    )
    assert why["by"].startswith("api:")
    assert why["since"] == api.get(f"/queues/{queue}").json()["paused_at"]
    api.post(f"/queues/{queue}/resume")
    assert waiting(api, task_id) == []


def test_a_worker_that_died_is_missed_by_its_queue_s_tasks_within_15_seconds(
    api: Api, queue: str
) -> None:
    task_id = make_task(make_tenant("acme"), queue=queue)
    worker_id = make_worker(queue)
    for age, reasons in ((14.0, []), (15.1, ["no_worker"])):
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE taskmill_worker SET last_seen_at = now() - make_interval(secs => %s)"
                " WHERE id = %s",
                [age, worker_id],
            )
        assert [one["reason"] for one in waiting(api, task_id)] == reasons


def test_a_waiting_task_says_that_its_queue_is_full_and_its_place_in_the_queue_s_order(
    api: Api, queue: str
) -> None:
    tenant = make_tenant("acme")
    make_worker(queue)
    first, last = make_task(tenant, queue=queue), make_task(tenant, queue=queue, priority=9)
    make_task(tenant, queue=queue, state="running")
    api.patch(f"/queues/{queue}", {"order": "oldest", "concurrency": 1})
    full = {"reason": "queue_limit", "queue": queue, "used": 1, "limit": 1}
    behind = {"reason": "behind", "position": 1, "estimated_start": None}
    assert waiting(api, first) == [full]
    assert waiting(api, last) == [full, behind]
    api.patch(f"/queues/{queue}", {"order": "newest"})
    assert (waiting(api, first), waiting(api, last)) == ([full, behind], [full])
    api.patch(f"/queues/{queue}", {"order": "priority", "concurrency": None})
    assert (waiting(api, first), waiting(api, last)) == ([behind], [])


def waiting(api: Api, task_id: uuid.UUID) -> Any:
    return api.get(f"/tasks/{task_id}").json()["waiting"]


def test_the_board_counts_the_caller_s_tasks_alone(api: Api, queue: str) -> None:
    mine, stranger = make_tenant("acme"), make_tenant("stranger")
    for state in ("queued", "queued", "dispatched", "running", "success", "failed", "scheduled"):
        make_task(mine, queue=queue, state=state)
    for state in ("queued", "dispatched", "running", "failed"):
        make_task(stranger, queue=queue, state=state)
    make_worker(queue, slots=3)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_task SET queued_at = now() - interval '90 s', run_at = now()"
            " - interval '90 s' WHERE state = 'queued' AND tenant_id = %s",
            [mine.id],
        )
    shown = next(one for one in api.get("/queues").json()["results"] if one["name"] == queue)
    states = ["scheduled", "queued", "dispatched", "running", "success", "failed"]
    assert shown["counts"] == dict.fromkeys(states, 1) | {"queued": 2}
    assert (shown["counts_capped"], shown["workers"], shown["slots"]) == (False, 1, 3)
    assert shown["finished_last_5_minutes"] == 2
    assert 90 <= shown["oldest_waiting_seconds"] < 120
    detail = api.get(f"/queues/{queue}").json()
    running = Task.objects.get(tenant=mine, state="running")
    assert [one["id"] for one in detail["active"]] == [str(running.id)]
    other = Api(make_key(make_tenant("third"))).get(f"/queues/{queue}")
    assert other.status_code == 200
    assert (other.json()["counts"], other.json()["active"]) == ({}, [])


def test_clean_deletes_finished_tasks_of_one_status_and_age_and_never_a_live_one(
    api: Api, queue: str
) -> None:
    mine, stranger = make_tenant("acme"), make_tenant("stranger")
    every = ("queued", "running", "success", "failed", "cancelled", "error")
    tasks = {state: make_task(mine, queue=queue, state=state) for state in every}
    others = [make_task(stranger, queue=queue, state="failed"), make_task(mine, state="failed")]
    body = {"grace_period": 3600, "status": "failed"}
    assert api.post(f"/queues/{queue}/clean", body).json() == {"count": 0}
    assert api.post(f"/queues/{queue}/clean", body | {"grace_period": 0}).json() == {"count": 1}
    assert api.get(f"/tasks/{tasks.pop('failed')}").status_code == 410
    assert {state: task_state(one) for state, one in tasks.items()} == {one: one for one in tasks}
    assert [task_state(one) for one in others] == ["failed", "failed"]
    for status in ("queued", "running"):
        wrong = {"grace_period": 0, "status": status}
        assert api.post(f"/queues/{queue}/clean", wrong).status_code == 422


def test_the_failed_tasks_of_a_queue_are_listed_and_retried(api: Api, queue: str) -> None:
    mine, stranger = make_tenant("acme"), make_tenant("stranger")
    tasks = [make_task(mine, queue=queue, state=state) for state in ("failed", "timeout")]
    other = make_task(stranger, queue=queue, state="failed")
    make_task(mine, state="failed")
    found = api.get(f"/queues/{queue}/failed").json()["results"]
    assert {one["id"] for one in found} == {str(one) for one in tasks}
    answer = api.post(f"/queues/{queue}/retry-failed")
    assert (answer.status_code, answer.json()) == (202, {"count": 2})
    assert [task_state(one) for one in (*tasks, other)] == ["queued", "queued", "failed"]


def act_on(client: Client, queue: str, action: str, **fields: str) -> str:
    """Run an action of the board on a queue; gives what is said after it."""
    data = {"action": action, "_selected_action": [queue], "index": "0"}
    answer = client.post(BOARD, data | fields, follow=True)
    return " ".join(str(message) for message in answer.context["messages"])


def test_operators_delete_finished_tasks_of_a_queue_in_the_admin(
    staff: Callable[..., Client], queue: str
) -> None:
    Queue.objects.create(name=queue)
    tenants = [make_tenant("acme"), make_tenant("stranger")]
    old = [make_task(one, queue=queue, state="failed") for one in tenants]
    Task.objects.update(finished_at=datetime(2020, 1, 1, tzinfo=UTC))
    kept = [make_task(tenants[0], queue=queue, state=state) for state in ("failed", "queued")]
    kept += [
        make_task(tenants[0], state="failed"),
        make_task(tenants[0], queue=queue, state="success"),
    ]
    chosen = {"status": "failed", "grace_period": "3600"}
    viewer, operator = staff("view_queue"), staff("view_queue", "operate_task")
    assert "Delete finished tasks" not in viewer.get(BOARD).content.decode()
    act_on(viewer, queue, "clean_selected", **chosen)
    page = operator.get(BOARD).content.decode()
    assert all(f'name="{name}"' in page for name in ("reason", "status", "grace_period"))
    for wrong in (
        {"status": ""},
        {"status": "queued"},
        {"grace_period": ""},
        {"grace_period": "-1"},
    ):
        (field,) = wrong
        assert act_on(operator, queue, "clean_selected", **chosen | wrong).startswith(f"* {field}")
    assert Task.objects.count() == len(old) + len(kept)
    assert act_on(operator, queue, "clean_selected", **chosen) == "2 deleted."
    assert set(Task.objects.values_list("id", flat=True)) == set(kept)


def test_operators_steer_queues_in_the_admin(staff: Callable[..., Client], queue: str) -> None:
    failed = make_task(queue=queue, state="failed")
    make_task(make_tenant("stranger"), queue=queue)
    row = Queue.objects.create(name=queue)

    def act(client: Client, action: str, **fields: str) -> str:
        return act_on(client, queue, action, **fields)

    viewer = staff("view_queue")
    assert queue in viewer.get(BOARD).content.decode()
    act(viewer, "pause_selected")
    row.refresh_from_db()
    assert not row.is_paused
    operator = staff("view_queue", "change_queue", "steer_queue", "operate_task")
    assert act(operator, "pause_selected", reason="r" * 501).startswith("* reason")
    assert act(operator, "pause_selected", reason="out of paper") == "1 paused."
    row.refresh_from_db()
    assert row.pause_reason == "out of paper"
    assert row.is_paused
    assert row.paused_by.startswith("admin:staff-")
    assert act(operator, "retry_failed_of_selected") == "1 queued again."
    assert task_state(failed) == "queued"
    form = operator.post(f"{BOARD}{queue}/change/", {"order": "newest", "concurrency": "2"})
    assert form.status_code == 302
    assert "1 resumed." in act(operator, "resume_selected")
    row.refresh_from_db()
    assert (row.is_paused, row.order, row.concurrency) == (False, "newest", 2)


@pytest.mark.parametrize("stored", [{}, {"window_most": 5}, {"window_least": 9}])
def test_a_queue_s_least_window_is_not_above_its_most(
    api: Api, queue: str, stored: dict[str, int]
) -> None:
    made = f"{queue}-made"
    wrong = {"window_least": 9, "window_most": 5}
    answers = [api.post("/queues", {"name": made} | wrong)]
    assert api.post("/queues", {"name": made} | stored).status_code == 201
    rest = {name: number for name, number in wrong.items() if name not in stored}
    answers.append(api.patch(f"/queues/{made}", rest))
    for answer in answers:
        assert (answer.status_code, pointers(answer)) == (422, ["/window_least"])
    assert api.patch(f"/queues/{made}", {"window_least": 5, "window_most": 5}).status_code == 200


def test_what_tenants_share_names_no_key_of_another_tenant(queue: str) -> None:
    mine, theirs = (Api(make_key(make_tenant(name))) for name in ("acme", "other"))
    mine.post("/queues", {"name": queue})
    task_id = make_task(make_tenant("other"), queue=queue)
    own = make_task(make_tenant("acme"), queue=queue)
    mine.post(f"/queues/{queue}/pause")
    mine.patch("/task-types/tests.echo", {"concurrency": 5})

    def named(api: Api, task_id: Any) -> set[str]:
        board = {one["name"]: one for one in api.get("/queues").json()["results"]}
        return {
            api.get(f"/queues/{queue}").json()["paused_by"],
            board[queue]["paused_by"],
            waiting(api, task_id)[0]["by"],
            api.get("/task-types/tests.echo").json()["limits"]["changed_by"],
        }

    assert named(theirs, task_id) == {"api"}
    [whole] = named(mine, own)
    assert whole.startswith("api:")
