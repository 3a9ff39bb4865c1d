"""The OpenAPI document is complete and true: every operation answers as it says."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from openapi_spec_validator import validate

from tasks_app import transitions
from tasks_app.api.failures import failures
from tasks_app.models import ApiKey, Tenant
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant, make_worker
from tests.integration.api_client import Api
from tests.integration.limit_contract_cases import LIMIT_CASES
from tests.integration.openapi_contract import Contract, document, operations
from tests.integration.queue_contract_cases import QUEUE_CASES
from tests.integration.schedule_contract_cases import SCHEDULE_CASES
from tests.integration.webhook_contract_cases import WEBHOOK_CASES

pytestmark = pytest.mark.django_db
ORDER = {"type": "tests.order", "payload": {"order_id": 4, "items": [{"sku": "a", "count": 1}]}}
UNIQUE = ORDER | {"unique": {"key": "k"}}
NOBODY = uuid.uuid4()


class World:
    """One tenant's API, every call held against the document."""

    def __init__(self) -> None:
        self.tenant: Tenant = make_tenant("acme")
        self.api = Api(make_key(self.tenant))
        self.contract = Contract()
        self.seen: set[int] = set()

    def call(
        self, name: str, path: str, body: Any = None, *, by: Api | None = None, **headers: str
    ) -> Any:
        """Call an operation and check what is sent and what comes back."""
        method, _, _ = self.contract.by_name[name]
        answer = (by or self.api).call(method, path, body, **headers)
        assert self.contract.find(method, f"/api/v1{path}".split("?")[0]) == name
        if answer.status_code < 400:
            self.contract.check_request(name, path, body, headers)
        self.contract.check_answer(name, answer)
        self.seen.add(answer.status_code)
        return answer

    def task(self, state: str = "queued", **fields: Any) -> str:
        return f"/tasks/{make_task(self.tenant, state=state, **fields)}"


@pytest.fixture
def world() -> World:
    return World()


def submit_task(call: Any, world: World) -> None:
    call("/tasks", ORDER | {"priority": 2, "tags": ["a"], "metadata": {"a": 1}})
    call("/tasks", ORDER | {"concurrency_key": "k", "max_concurrency": 1, "retry": None})
    call("/tasks", ORDER, Idempotency_Key="a")
    call("/tasks", ORDER, Idempotency_Key="a")
    call("/tasks", UNIQUE, Prefer="wait=0")
    call("/tasks", UNIQUE)
    for_a_time = {"key": "t", "while": "ttl", "ttl": 9, "on_conflict": "replace"}
    call("/tasks", ORDER | {"unique": for_a_time})
    for _ in range(2):
        call("/tasks", ORDER | {"debounce": {"key": "d", "wait": 0.5, "max_wait": 9}})


def submit_typed_task(call: Any, world: World) -> None:
    world.contract.by_name.pop("submit_tests_order")
    path = "/task-types/tests.order/tasks"
    query = "priority=3&tags=a&tags=b&delay=0.5&concurrency_key=k&max_concurrency=2&queue=orders"
    call(f"{path}?{query}", ORDER["payload"])
    finished_within_its_wait(call, path)


def submit_tests_order(call: Any, world: World) -> None:
    path = "/task-types/tests.order/tasks"
    call(f"{path}?process_timeout=9", ORDER["payload"])
    finished_within_its_wait(call, path)


def finished_within_its_wait(call: Any, path: str) -> None:
    """Replay a submission whose task has ended meanwhile, which needs no worker."""
    task_id = call(path, ORDER["payload"], Idempotency_Key="w").json()["id"]
    with transitions_cursor() as cursor:
        tenant_id = Tenant.objects.get(slug="acme").id
        transitions.request_cancel(
            cursor,
            tenant_id=tenant_id,
            task_id=uuid.UUID(task_id),
            actor="tests",
            reason="",
            grace_seconds=None,
        )
    call(path, ORDER["payload"], Idempotency_Key="w", Prefer="wait=1")


def transitions_cursor() -> Any:
    from django.db import connection

    return connection.cursor()


def submit_tasks(call: Any, world: World) -> None:
    call("/tasks/bulk", {"items": [ORDER, UNIQUE], "atomic": True})
    call("/tasks/bulk", {"items": [UNIQUE, ORDER]}, Idempotency_Key="b")
    call("/tasks/bulk", {"items": [ORDER, {"type": "no.such"}]})
    rejecting = UNIQUE | {"unique": {"key": "k", "on_conflict": "reject"}}
    call("/tasks/bulk", {"items": [rejecting]})


def list_tasks(call: Any, world: World) -> None:
    for state in ("queued", "running", "success", "failed", "cancelled", "retrying"):
        world.task(state, tags=["a"])
    for query in ("", "?count=true", "?status=failed&status=success&limit=1&sort=-finished_at"):
        call(f"/tasks{query}")
    call(f"/tasks?parent={uuid.uuid4()}")
    call("/tasks?tag=a&state=queued&type=tests.echo&created_after=2020-01-01T00:00:00Z&offset=1")


def get_task(call: Any, world: World) -> None:
    for state in ("running", "cancelling", "success", "failed", "timeout", "blocked", "retrying"):
        call(world.task(state))
    call(world.task("scheduled"))
    limited = {"concurrency_key": "k", "max_concurrency": 1, "queue": "limited"}
    world.task("running", **limited)
    world.task("queued", queue="limited", priority=9)
    waiting = call(world.task("queued", **limited))
    reasons = [one["reason"] for one in waiting.json()["waiting"]]
    assert reasons == ["no_worker", "concurrency_limit", "behind"]
    path = world.task("success")
    call(path, If_None_Match=call(path).headers["ETag"], Prefer="wait=1")


def revise_task(call: Any, world: World) -> None:
    path = world.task()
    changes = {"priority": 5, "queue": "other", "tags": None, "metadata": {"a": None}}
    call(path, changes | {"run_at": "2099-01-01T00:00:00Z"}, If_Match='"1"')
    call(path, {"priority": 1}, If_Match='"1"')


def delete_task(call: Any, world: World) -> None:
    call(world.task())
    call(world.task("running"), {"reason": "no", "grace": 1.5})
    call(world.task("success"))


def cancel_task(call: Any, world: World) -> None:
    call(world.task() + "/cancel", {"force": True})
    call(world.task("running") + "/cancel")


def retry_task(call: Any, world: World) -> None:
    call(world.task("failed") + "/retry", {"payload": {"a": 1}})
    call(world.task("success") + "/retry")


def rerun_task(call: Any, world: World) -> None:
    path = world.task("failed") + "/rerun"
    call(path)
    finished_within_its_wait(lambda _, __, **headers: call(path, {}, **headers), path)


def get_task_result(call: Any, world: World) -> None:
    call(world.task("success") + "/result")
    call(world.task("queued") + "/result")
    call(world.task("failed") + "/result")


def list_task_events(call: Any, world: World) -> None:
    for state in ("success", "failed", "retrying", "cancelled", "timeout"):
        path = world.task(state) + "/events"
        call(f"{path}?after=1&limit=2")
        assert call(path).json()["results"]


def list_task_attempts(call: Any, world: World) -> None:
    for state in ("success", "failed", "cancelled", "timeout", "retrying"):
        path = world.task(state) + "/attempts"
        assert call(path).json()["results"][0]["outcome"]
        call(path, by=Api(make_key(world.tenant, ["tasks:read"])))


def list_task_logs(call: Any, world: World) -> None:
    from tasks_app.models import LogChunk, Task

    task_id = make_task(world.tenant, state="success")
    line = {"at": "2027-01-01T00:00:00Z", "level": "info", "message": "m", "fields": {"a": 1}}
    LogChunk.objects.create(
        task=Task.objects.get(pk=task_id),
        tenant=world.tenant,
        epoch=1,
        number=1,
        size_bytes=9,
        lines=[line, line],
    )
    after = call(f"/tasks/{task_id}/logs?limit=1&level=debug&attempt=1").json()["after"]
    assert len(call(f"/tasks/{task_id}/logs?after={after}").json()["results"]) == 1


def stream_task(call: Any, world: World) -> None:
    task_id = make_task(world.tenant, state="success")
    call(f"/tasks/{task_id}/stream")
    with transitions_cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskmill_feed SELECT 1, count(*), array_agg(id), min(id), max(id), now(),"
            " max(id), '{}', '{}' FROM (SELECT id FROM taskmill_event WHERE task_id = %s"
            " ORDER BY id) e",
            [task_id],
        )
    call(f"/tasks/{task_id}/stream?last_event_id=3")


def stream_events(call: Any, world: World) -> None:
    task_id = make_task(world.tenant)
    call(f"/events/stream?tasks={task_id}&types=task.created&tags=a&last_event_id=0")


def create_task_watch_token(call: Any, world: World) -> None:
    call(world.task() + "/watch-tokens")


def create_tag_watch_token(call: Any, world: World) -> None:
    call("/watch-tokens", {"tag": "vip"})


def create_ws_ticket(call: Any, world: World) -> None:
    call("/ws-tickets")


def list_task_types(call: Any, world: World) -> None:
    call("/task-types")


def get_task_type(call: Any, world: World) -> None:
    world.task("success")
    call("/task-types/tests.echo")
    call("/task-types/tests.order")


def list_dead_letters(call: Any, world: World) -> None:
    for state in ("failed", "error", "timeout"):
        world.task(state)
    call("/dead-letters?limit=1&type=tests.echo")
    group_id = call("/dead-letters?group=true").json()["results"][0]["id"]
    call(f"/dead-letters?group_id={group_id}&status=failed")


def retry_dead_letters(call: Any, world: World) -> None:
    world.task("failed")
    call("/dead-letters/retry", {"queue": "default", "status": "failed"})


def purge_dead_letters(call: Any, world: World) -> None:
    task_id = make_task(world.tenant, state="failed")
    call("/dead-letters/purge", {"ids": [str(task_id)]})


def begin_paced_retry(call: Any, world: World) -> None:
    world.task("failed")
    begun = call("/dead-letters/retries", {"queue": "default", "per_second": 0.5})
    assert begun.json()["state"] == "running"


def a_paced_retry(world: World) -> str:
    body = {"status": "failed", "per_second": 1}
    answer = world.call("begin_paced_retry", "/dead-letters/retries", body)
    world.seen.clear()
    return str(answer.json()["id"])


def list_paced_retries(call: Any, world: World) -> None:
    a_paced_retry(world)
    call("/dead-letters/retries?limit=1")


def get_paced_retry(call: Any, world: World) -> None:
    call(f"/dead-letters/retries/{a_paced_retry(world)}")


def abort_paced_retry(call: Any, world: World) -> None:
    retry_id = a_paced_retry(world)
    call(f"/dead-letters/retries/{retry_id}/abort", {})
    call(f"/dead-letters/retries/{retry_id}/abort")


def list_workers(call: Any, world: World) -> None:
    make_worker("orders")
    call("/workers")


def get_stats(call: Any, world: World) -> None:
    for state in ("queued", "running", "success", "failed"):
        world.task(state)
    call("/stats?window=7d")


def check_health(call: Any, world: World) -> None:
    from tasks_app.engine_loops import engine_loops
    from tasks_app.services.health import forget_health

    forget_health()
    answer = call("/health")
    assert answer.status_code == 503
    make_worker()
    with transitions_cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskmill_leader (loop, holder, token, expires_at)"
            " SELECT l, 'h', 1, taskmill_now() + interval '1 min'"
            " FROM unnest(%s::text[]) AS l",
            [list(engine_loops())],
        )
    forget_health()
    call("/health")
    forget_health()


def check_alive(call: Any, world: World) -> None:
    call("/livez")


def check_ready(call: Any, world: World) -> None:
    call("/readyz")


CASES: dict[str, Callable[[Any, World], None]] = {
    case.__name__: case
    for case in (
        submit_task, submit_typed_task, submit_tests_order, submit_tasks, list_tasks, get_task,
        revise_task, delete_task, cancel_task, retry_task, rerun_task, get_task_result,
        list_task_events, list_task_attempts, list_task_logs, list_task_types, get_task_type,
        list_dead_letters, retry_dead_letters, purge_dead_letters, list_workers, get_stats,
        begin_paced_retry, list_paced_retries, get_paced_retry, abort_paced_retry,
        check_health, check_alive, check_ready, stream_task, stream_events,
        create_task_watch_token, create_tag_watch_token,
        create_ws_ticket,
    )
}  # fmt: skip
CASES |= WEBHOOK_CASES | SCHEDULE_CASES | QUEUE_CASES | LIMIT_CASES


@pytest.mark.parametrize("name", CASES)
def test_an_operation_gives_every_success_that_it_documents_and_nothing_else(
    name: str, world: World, valkey: Any
) -> None:
    successes = world.contract.successes(name)
    CASES[name](lambda path, body=None, **more: world.call(name, path, body, **more), world)
    assert {one for one in world.seen if one < 400} == successes


def test_every_operation_is_held_against_the_document() -> None:
    from tasks_app.registry import all_handlers

    words = {one.type.replace(".", "_").replace("-", "_") for one in all_handlers()}
    names = {one["operationId"] for _, _, one in operations(document())}
    assert {f"submit_{one}" for one in words} <= names
    assert names - {f"submit_{one}" for one in words} == set(CASES) - {"submit_tests_order"}


def body_of(status: int) -> Any:
    return {
        400: b"{",
        404: {"type": "no.such"},
        413: ORDER | {"payload": {"order_id": 1, "filler": "x" * 1_200_000}},
        422: ORDER | {"payload": {"order_id": -1}},
        409: UNIQUE | {"unique": {"key": "k", "on_conflict": "reject"}},
    }.get(status, ORDER)


def refuse(world: World, status: int) -> Any:
    """Make the API refuse a submission with this status."""
    tokens = {401: "tm_live_x", 403: make_key(world.tenant, ["tasks:read"])}
    api = Api(tokens[status]) if status in tokens else world.api
    if status == 409:
        world.call("submit_task", "/tasks", UNIQUE)
    if status == 429:
        ApiKey.objects.update(rate_limit="1/hour")
        api = Api(make_key(world.tenant))
        ApiKey.objects.update(rate_limit="1/hour")
        world.call("submit_task", "/tasks", ORDER, by=api)
    if status == 415:
        from django.test import Client

        sent = {"Authorization": f"Bearer {make_key(world.tenant)}"}
        answer = Client().post("/api/v1/tasks", "a=b", "text/plain", headers=sent)
        world.contract.check_answer("submit_task", answer)
        return answer
    return world.call("submit_task", "/tasks", body_of(status), by=api)


REFUSALS = (400, 401, 403, 404, 409, 413, 415, 422, 429)


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refused_submission_is_answered_as_documented(
    status: int, world: World, valkey: Any
) -> None:
    assert refuse(world, status).status_code == status


def test_every_refusal_of_a_submission_that_is_documented_happens() -> None:
    responses = Contract().by_name["submit_task"][2]["responses"]
    assert {one for one in responses if one[0] == "4"} == {str(one) for one in REFUSALS}


@pytest.mark.parametrize("status", [401, 403, 404])
def test_every_operation_refuses_as_documented(status: int, world: World) -> None:
    api = Api({401: "tm_live_x", 403: make_key(world.tenant, [])}.get(status, make_key()))
    for name, (method, path, operation) in world.contract.by_name.items():
        if str(status) not in operation["responses"] or not operation["security"]:
            continue
        failures.forget()
        names = ("task_id", "endpoint_id", "delivery_id", "schedule_id", "queue", "key", "retry_id")
        url = path.format(task_type="no.such", **dict.fromkeys(names, NOBODY))
        if status == 404 and url == path:
            continue
        answer = api.call(method, url, None if method == "GET" else {})
        assert answer.status_code == status, (name, answer.content)
        world.contract.check_answer(name, answer)
    assert api.call("GET", "/livez").status_code == 200


def test_the_document_is_valid_and_every_operation_explains_itself() -> None:
    found = document()
    validate(found)
    names = [one["operationId"] for _, _, one in operations(found)]
    assert len(names) == len(set(names))
    tags = {one["name"] for one in found["tags"]}
    for _, path, operation in operations(found):
        assert operation["summary"], path
        assert set(operation["tags"]) <= tags
        scope = ("with the scope `" in operation["description"]) or not operation["security"]
        assert scope, path
        assert "5XX" in operation["responses"]
        assert all(one["description"] for one in operation["parameters"])


def test_types_whose_names_differ_in_separators_alone_have_operations_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tasks_app import registry

    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))
    for number, name in enumerate(("clash.one", "clash_one", "clash-one")):
        declare(registry, name, f"field_{number}")
    found = document()
    validate(found)
    for number, name in enumerate(("clash.one", "clash_one", "clash-one")):
        operation = found["paths"][f"/api/v1/task-types/{name}/tasks"]["post"]
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = found["components"]["schemas"][reference.rsplit("/", 1)[1]]
        inner = schema["properties"]["part"]["$ref"].rsplit("/", 1)[1]
        assert list(found["components"]["schemas"][inner]["properties"]) == [f"field_{number}"]


def declare(registry: Any, name: str, field: str) -> None:
    from pydantic import create_model

    part = create_model("Part", **{field: (int, ...)})
    model = create_model("Payload", part=(part, ...))

    def run(payload: Any) -> None:
        """Do nothing."""

    run.__annotations__ = {"payload": model, "return": None}
    registry.handler(name)(run)
