"""Dead letters by cause: stable groups, a changed payload, retries at a pace."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest
from django.db import connection as django_connection

from tasks_app import transitions
from tasks_app.conf import conf
from tasks_app.maintenance import paced_retry
from tasks_app.maintenance.loop import MaintainWork
from tasks_app.maintenance.paced_retry import PacedRetries
from tasks_app.maintenance.prune import PruneRecords
from tasks_app.models import Event, PacedRetry, Task, Tenant
from tasks_app.services import paced_retries
from tests import task_handlers  # noqa: F401 - registers the types
from tests.engines import running_loop
from tests.factories import claim, drive, make_key, make_task, make_tenant, task_state
from tests.integration.api_client import Api, pointers
from tests.integration.test_maintenance import Clock, run
from tests.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
RETRIES = "/dead-letters/retries"


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


@pytest.fixture
def clock() -> Iterator[Clock]:
    one = Clock()
    yield one
    one.connection.close()


def dead(
    tenant: Tenant, code: str = "NO_STOCK", frame: str | None = "orders.py in pick", **fields: Any
) -> uuid.UUID:
    """A task whose handler failed for good."""
    task_id = make_task(tenant, state="dispatched", **fields)
    error = {"code": code, "type": "E", "message": f"{code} of {task_id}", "retryable": False}
    with django_connection.cursor() as cursor:
        assert transitions.fail(
            cursor,
            task_id,
            epoch=claim(task_id),
            state="failed",
            error=orjson.dumps(error | {"attempt": 1}).decode(),
            frame=frame,
        )
    return task_id


def groups(api: Api, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/dead-letters?group=true{query}").json()["results"]
    return found


def ids(answer: Any) -> set[str]:
    return {row["id"] for row in answer.json()["results"]}


def test_a_group_is_a_type_a_code_and_a_frame_and_its_id_stays_and_filters(
    api: Api, tenant: Tenant
) -> None:
    stock = [dead(tenant), dead(tenant, queue="b")]
    others = [dead(tenant, code="X"), dead(tenant, frame="orders.py in pack")]
    others += [dead(tenant, type="tests.order"), dead(tenant, frame=None)]
    lost = make_task(tenant, state="error")
    dead(make_tenant("other"))
    found = {row["id"]: row for row in groups(api)}
    assert len(found) == 6
    assert sum(row["count"] for row in found.values()) == 7
    (group,) = [row for row in found.values() if row["count"] == 2]
    assert (group["type"], group["code"], group["frame"]) == (
        "tests.echo",
        "NO_STOCK",
        "orders.py in pick",
    )
    assert group["queues"] == ["b", "default"]
    assert group["sample_id"] == str(stock[1])
    assert group["sample_message"] == f"NO_STOCK of {stock[1]}"
    assert group["first_seen_at"] < group["last_seen_at"]
    listed = api.get(f"/dead-letters?group_id={group['id']}")
    assert ids(listed) == {str(one) for one in stock}
    assert listed.json()["results"][0]["group_id"] == group["id"]
    api.post("/dead-letters/purge", {"ids": [str(one) for one in (*others, *stock)]})
    assert task_state(lost) == "error"
    assert [row["count"] for row in groups(api)] == [1]
    dead(tenant)
    assert group["id"] in {row["id"] for row in groups(api)}


def test_dead_letters_are_filtered_by_status_and_a_wrong_filter_is_refused(
    api: Api, tenant: Tenant
) -> None:
    failed, timeout = dead(tenant), make_task(tenant, state="timeout")
    assert ids(api.get("/dead-letters?status=timeout")) == {str(timeout)}
    assert ids(api.get("/dead-letters?status=failed")) == {str(failed)}
    assert pointers(api.get("/dead-letters?status=success")) == ["/query/status"]
    assert pointers(api.get("/dead-letters?group_id=xyz")) == ["/query/group_id"]


def test_a_group_is_retried_and_purged_at_once_by_its_id(api: Api, tenant: Tenant) -> None:
    stock, other = dead(tenant), dead(tenant, code="X")
    by_code = {row["code"]: row["id"] for row in groups(api)}
    body = {"group_id": by_code["NO_STOCK"]}
    assert api.post("/dead-letters/retry", body).json() == {"count": 1}
    assert (task_state(stock), task_state(other)) == ("queued", "failed")
    assert Task.objects.get(id=stock).frame is None
    young = {"group_id": by_code["X"], "finished_before": "2020-01-01T00:00:00Z"}
    assert api.post("/dead-letters/purge", young).json() == {"count": 0}
    assert api.post("/dead-letters/purge", {"group_id": by_code["X"]}).json() == {"count": 1}
    assert pointers(api.post("/dead-letters/purge", {"group_id": "%"})) == ["/group_id"]


def test_a_dead_letter_is_retried_with_another_payload_that_fits_its_type(
    api: Api, tenant: Tenant
) -> None:
    task_id = make_task(tenant, state="failed", type="tests.order", payload={"order_id": -1})
    wrong = api.post(f"/tasks/{task_id}/retry", {"payload": {"order_id": -2}})
    assert pointers(wrong) == ["/payload/order_id"]
    assert task_state(task_id) == "failed"
    answer = api.post(f"/tasks/{task_id}/retry", {"payload": {"order_id": 5}})
    assert (answer.status_code, answer.json()["payload"]) == (202, {"order_id": 5})
    event = Event.objects.get(task_id=task_id, type="task.redriven")
    assert event.data == {"is_payload_changed": True}
    assert api.post(f"/tasks/{task_id}/retry", {"payload": {"order_id": 6}}).status_code == 409
    assert Task.objects.get(id=task_id).payload == {"order_id": 5}
    same = make_task(tenant, state="failed", payload={"kept": 1})
    assert api.post(f"/tasks/{same}/retry").json()["payload"] == {"kept": 1}
    foreign = make_task(make_tenant("other"), state="failed", type="tests.order")
    body = {"payload": {"order_id": 5}}
    assert api.post(f"/tasks/{foreign}/retry", body).status_code == 404
    assert api.post(f"/tasks/{same}/retry", {"colour": 1}).status_code == 422


def begun(api: Api, per_second: float, **wanted: Any) -> str:
    answer = api.post(RETRIES, {"per_second": per_second} | (wanted or {"queue": "default"}))
    assert answer.status_code == 202, answer.content
    return str(answer.json()["id"])


def test_a_group_is_retried_at_its_pace_and_its_progress_is_shown(
    api: Api, tenant: Tenant, clock: Clock
) -> None:
    stock = [dead(tenant) for _ in range(8)]
    others = [dead(tenant, code="X"), dead(make_tenant("other"))]
    group = next(row["id"] for row in groups(api) if row["code"] == "NO_STOCK")
    retry_id = begun(api, 2, group_id=group)
    late = dead(tenant)
    step = PacedRetries()
    done = [run(step, clock.after(at)).count for at in (0.2, 0.4, 1.5, 1.6, 60, 60.2)]
    assert done == [1, 0, 2, 0, 2, 0]
    assert [task_state(one) for one in stock] == ["queued"] * 5 + ["failed"] * 3
    shown = api.get(f"{RETRIES}/{retry_id}").json()
    assert (shown["state"], shown["total"], shown["retried"]) == ("running", 8, 5)
    assert (shown["progress"], shown["wanted"]) == (62.5, {"group_id": group})
    drive(stock[0], "failed")
    for at in range(62, 70):
        run(step, clock.after(at))
    shown = api.get(f"{RETRIES}/{retry_id}").json()
    assert (shown["state"], shown["retried"], shown["skipped"]) == ("done", 8, 0)
    assert (shown["progress"], shown["finished_by"]) == (100, None)
    assert [task_state(one) for one in (stock[0], late, *others)] == ["failed"] * 4
    redriven = Event.objects.filter(task_id=stock[3], type="task.redriven").get()
    assert redriven.actor == shown["created_by"]


def test_an_aborted_retry_retries_nothing_more(api: Api, tenant: Tenant, clock: Clock) -> None:
    tasks = [dead(tenant) for _ in range(3)]
    retry_id = begun(api, 1)
    run(PacedRetries(), clock.after(1))
    answer = api.post(f"{RETRIES}/{retry_id}/abort")
    assert (answer.status_code, answer.json()["state"]) == (200, "aborted")
    assert answer.json()["finished_by"].startswith("api:")
    assert run(PacedRetries(), clock.after(600)).count == 0
    assert [task_state(one) for one in tasks] == ["queued", "failed", "failed"]
    again = api.post(f"{RETRIES}/{retry_id}/abort")
    assert (again.status_code, again.json()["state"]) == (409, "aborted")


def test_a_batch_that_was_about_to_begin_when_the_abort_came_retries_nothing(
    api: Api, tenant: Tenant, clock: Clock
) -> None:
    task_id = dead(tenant)
    retry_id = begun(api, 100)
    api.post(f"{RETRIES}/{retry_id}/abort")
    assert paced_retry._carry_on(clock.after(1), uuid.UUID(retry_id)) == 0
    assert task_state(task_id) == "failed"


def test_those_whose_unique_key_lives_are_skipped_and_do_not_hold_the_others_up(
    api: Api, tenant: Tenant, clock: Clock
) -> None:
    first, keyed, last = dead(tenant), dead(tenant, unique_key="u"), dead(tenant)
    make_task(tenant, unique_key="u")
    retry_id = begun(api, 1)
    for at in range(1, 7):
        run(PacedRetries(), clock.after(at))
    assert [task_state(one) for one in (first, keyed, last)] == ["queued", "failed", "queued"]
    shown = api.get(f"{RETRIES}/{retry_id}").json()
    assert (shown["state"], shown["retried"], shown["skipped"]) == ("done", 2, 1)


def test_a_step_that_dies_in_its_batch_has_retried_and_counted_nothing(
    api: Api, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [dead(tenant) for _ in range(3)]
    retry_id = begun(api, 100)
    with monkeypatch.context() as broken:
        broken.setattr(paced_retry, "_NOTE", "UPDATE no_such_table SET retried = 1")
        with pytest.raises(psycopg.errors.UndefinedTable):
            run(PacedRetries(), clock.after(1))
    assert [task_state(one) for one in tasks] == ["failed"] * 3
    assert run(PacedRetries(), clock.after(62)).count == 3
    assert api.get(f"{RETRIES}/{retry_id}").json()["retried"] == 3


def test_a_retry_that_another_process_carries_on_is_left_to_it(
    api: Api, tenant: Tenant, clock: Clock
) -> None:
    dead(tenant)
    retry_id = begun(api, 100)
    other = Clock()
    with other.connection.transaction():
        other.connection.execute(
            "SELECT 1 FROM taskmill_paced_retry WHERE id = %s FOR UPDATE", [retry_id]
        )
        assert run(PacedRetries(), clock.after(1)).count == 0
    other.connection.close()
    assert run(PacedRetries(), clock.after(1)).count == 1


def test_a_retry_goes_on_where_it_was_after_a_restart_of_the_engine(
    api: Api, tenant: Tenant
) -> None:
    from tasks_app.maintenance.loop import make_work

    tasks = [dead(tenant) for _ in range(12)]
    retry_id = begun(api, 8)

    def queued() -> int:
        return sum(task_state(one) == "queued" for one in tasks)

    with running_loop(make_work(), conf()):
        wait_for(lambda: queued() >= 2)
    assert PacedRetry.objects.get(id=retry_id).retried == queued() < 12
    with running_loop(MaintainWork([PacedRetries()]), conf()):
        wait_for(lambda: PacedRetry.objects.get(id=retry_id).state == "done")
    row = PacedRetry.objects.get(id=retry_id)
    assert (row.retried, row.skipped, queued()) == (12, 0, 12)
    assert Event.objects.filter(task_id__in=tasks, type="task.redriven").count() == 12


def test_paced_retries_are_listed_newest_first_and_are_the_tenant_s_alone(
    api: Api, tenant: Tenant
) -> None:
    made = [begun(api, 1) for _ in range(3)]
    first = api.get(f"{RETRIES}?limit=2").json()
    second = api.get(first["next"][first["next"].index("/api") :]).json()
    assert [row["id"] for row in first["results"] + second["results"]] == made[::-1]
    back = api.get(second["previous"][second["previous"].index("/api") :]).json()
    assert back["results"] == first["results"]
    stranger = Api(make_key(make_tenant("stranger")))
    assert stranger.get(RETRIES).json()["results"] == []
    for used in (made[0], str(uuid.uuid4()), "no-id"):
        assert stranger.get(f"{RETRIES}/{used}").json()["code"] == "paced_retry_not_found"
        assert stranger.post(f"{RETRIES}/{used}/abort").status_code == 404
    assert PacedRetry.objects.filter(state="running").count() == 3
    reader = Api(make_key(tenant, ["tasks:read"]))
    assert reader.get(f"{RETRIES}/{made[0]}").status_code == 200
    assert reader.post(f"{RETRIES}/{made[0]}/abort").status_code == 403
    assert reader.post(RETRIES, {"per_second": 1, "queue": "a"}).status_code == 403


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"per_second": 1}, [""]),
        ({"queue": "a"}, ["/per_second"]),
        ({"queue": "a", "per_second": 0}, ["/per_second"]),
        ({"queue": "a", "per_second": 1001}, ["/per_second"]),
        ({"queue": "a", "per_second": 1, "ids": []}, ["/ids"]),
        ({"group_id": "no", "per_second": 1}, ["/group_id"]),
        ({"queue": "a\x00", "per_second": 1}, ["/queue"]),
    ],
)
def test_a_paced_retry_needs_a_filter_and_a_pace(api: Api, body: Any, wrong: list[str]) -> None:
    answer = api.post(RETRIES, body)
    assert answer.status_code == 422
    assert pointers(answer) == wrong
    assert not PacedRetry.objects.exists()


def test_a_tenant_has_so_many_paced_retries_at_a_time(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paced_retries, "MOST_RUNNING", 2)
    first, _ = begun(api, 1), begun(api, 1)
    refused = api.post(RETRIES, {"per_second": 1, "queue": "a"})
    assert (refused.status_code, refused.json()["code"]) == (409, "state_conflict")
    assert begun(Api(make_key(make_tenant("other"))), 1)
    api.post(f"{RETRIES}/{first}/abort")
    assert begun(api, 1)


def test_slow_retries_do_not_keep_others_waiting(
    api: Api, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paced_retry, "AT_A_TIME", 1)
    tasks = [dead(tenant, queue="slow") for _ in range(3)] + [dead(tenant, queue="fast")]
    begun(api, 0.001, queue="slow")
    run(PacedRetries(), clock.after(1))
    begun(api, 10, queue="fast")
    run(PacedRetries(), clock.after(2))
    states = [task_state(one) for one in tasks]
    assert states == ["queued", "failed", "failed", "queued"]


def test_retries_take_turns(
    api: Api, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paced_retry, "AT_A_TIME", 1)
    tasks = [dead(tenant, queue=queue) for queue in ("a", "a", "a", "b")]
    for queue in ("a", "b"):
        begun(api, 1, queue=queue)
    for at in (1, 2):
        run(PacedRetries(), clock.after(at))
    assert [task_state(one) for one in tasks] == ["queued", "failed", "failed", "queued"]


def test_a_retry_that_fails_rests_and_keeps_no_other_waiting(
    api: Api, tenant: Tenant, clock: Clock
) -> None:
    task_id = dead(tenant)
    broken, sound = begun(api, 10, type="tests.echo"), begun(api, 10)
    wanted = PacedRetry.objects.get(id=broken).wanted
    PacedRetry.objects.filter(id=broken).update(wanted={"no_such_field": 1})
    with pytest.raises(TypeError, match="no_such_field"):
        run(PacedRetries(), clock.after(1))
    assert task_state(task_id) == "queued"
    assert api.get(f"{RETRIES}/{sound}").json()["retried"] == 1
    drive(task_id, "failed")
    PacedRetry.objects.filter(id=broken).update(wanted=wanted)
    assert run(PacedRetries(), clock.after(30)).count == 0
    PacedRetry.objects.filter(id=broken).update(created_at=Task.objects.get(id=task_id).finished_at)
    assert run(PacedRetries(), clock.after(63)).count == 1


def test_ended_paced_retries_leave_after_their_retention(api: Api, clock: Clock) -> None:
    ended, going = begun(api, 1), begun(api, 1)
    api.post(f"{RETRIES}/{ended}/abort")
    step = PruneRecords(stale_days=1)
    run(step, clock.after(86_000))
    assert PacedRetry.objects.count() == 2
    run(step, clock.after(87_000))
    assert str(PacedRetry.objects.get().id) == going
