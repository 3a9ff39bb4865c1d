"""Submissions that come together: one statement for them, and an answer of its own for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from typing import Any

import httpx
import pytest
from django.db import DataError, OperationalError
from django.db import connection as django_connection

from tasks_app import transitions
from tasks_app.api import gathering
from tasks_app.api.gathering import MOST_TOGETHER, Gatherer
from tasks_app.db import connect
from tasks_app.models import Task, Tenant
from tasks_app.selectors.quotas import forget_quotas
from tasks_app.services import admission, submit
from tasks_app.services.admission import Applicant
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_tenant
from tests.integration.test_api_way_in import talk

pytestmark = pytest.mark.django_db(transaction=True)
TASKS = "/api/v1/tasks"
ORDERS = [{"type": "tests.order", "payload": {"order_id": number}} for number in range(20)]


def statements(ids: Collection[str]) -> int:
    """Give how many transactions inserted some tasks with their first events."""
    with django_connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(DISTINCT t.xmin::text), count(*) FROM taskmill_task t"
            " JOIN taskmill_event e ON e.task_id = t.id AND e.type = 'task.created'"
            " AND e.xmin::text = t.xmin::text WHERE t.id = ANY(%s::uuid[])",
            [list(ids)],
        )
        transactions, events = cursor.fetchone()
    assert events == len(ids)
    return int(transactions)


def test_those_that_come_together_share_a_statement_and_keep_what_is_their_own() -> None:
    ids: set[str] = set()

    async def conversation(client: httpx.AsyncClient) -> None:
        posts = [
            client.post(TASKS, json=order, headers={"X-Request-Id": f"request-{number}"})
            for number, order in enumerate(ORDERS)
        ]
        for number, answer in enumerate(await asyncio.gather(*posts)):
            assert (answer.status_code, answer.headers["X-Request-Id"]) == (
                202,
                f"request-{number}",
            )
            assert answer.json()["payload"] == {"order_id": number}
            assert answer.headers["Location"] == f"{TASKS}/{answer.json()['id']}"
            ids.add(answer.json()["id"])

    talk(conversation, make_key())
    assert len(ids) == 20
    assert statements(ids) <= 5


def test_one_client_after_another_waits_for_nobody() -> None:
    ids: set[str] = set()

    async def conversation(client: httpx.AsyncClient) -> None:
        for order in ORDERS[:3]:
            answer = await client.post(TASKS, json=order)
            assert answer.status_code == 202
            ids.add(answer.json()["id"])

    talk(conversation, make_key())
    assert statements(ids) == 3


async def post(
    client: httpx.AsyncClient, path: str, token: str, body: Any, number: int
) -> httpx.Response:
    """Post a body, JSON values or bytes, as a request of its own name."""
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "X-Request-Id": f"request-{number}",
    }
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post(path, content=content, headers=headers)


def test_each_is_refused_as_if_it_were_alone() -> None:
    tenant = make_tenant()
    key, reader = make_key(tenant), make_key(tenant, scopes={"tasks:read"})
    quota = make_tenant("full")
    Tenant.objects.filter(pk=quota.pk).update(max_waiting=1)
    forget_quotas()
    full = make_key(quota)
    unique = {"type": "tests.echo", "unique": {"key": "only-once"}}
    cases: list[tuple[str, str, Any, int]] = [
        (TASKS, key, ORDERS[1], 202),
        (TASKS, key, {"type": "tests.order", "payload": {"order_id": "x"}}, 422),
        (TASKS, key, {"type": "no.such"}, 404),
        (TASKS, "tm_wrong", ORDERS[2], 401),
        (TASKS, reader, ORDERS[3], 403),
        (TASKS, key, b"{", 400),
        (TASKS, key, unique, 202),
        (TASKS, key, unique, 200),
        (TASKS, full, {"type": "tests.echo"}, 202),
        (TASKS, full, {"type": "tests.echo"}, 429),
        ("/api/v1/task-types/tests.order/tasks?priority=7", key, {"order_id": 8}, 202),
        (TASKS, key, {"type": "tests.echo", "payload": {"text": "x" * 40_000}}, 202),
        (TASKS, key, ORDERS[4], 202),
    ]

    async def conversation(client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(
            *[post(client, *case[:3], number) for number, case in enumerate(cases)]
        )
        found = [answer.status_code for answer in answers]
        for first in (6, 8):  # of two that want the same either may be first
            found[first : first + 2] = sorted(
                found[first : first + 2], key=[cases[first][3], cases[first + 1][3]].index
            )
        assert found == [status for *_, status in cases]
        for number, answer in enumerate(answers):
            assert answer.headers["X-Request-Id"] == f"request-{number}"
            if answer.status_code >= 400:
                assert answer.json()["request_id"] == f"request-{number}"
        assert answers[10].json()["priority"] == 7
        assert answers[0].json()["payload"] == {"order_id": 1}
        assert answers[12].json()["payload"] == {"order_id": 4}

    talk(conversation)
    assert Task.objects.filter(tenant__in=[tenant, quota]).count() == 6


def test_waits_begin_when_those_that_came_along_are_stored() -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        headers = {"Prefer": "wait=1"}
        posts = [client.post(TASKS, json=order, headers=headers) for order in ORDERS[:5]]
        for order, answer in zip(ORDERS, await asyncio.gather(*posts), strict=False):
            assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=1")
            assert answer.json()["payload"] == order["payload"]

    talk(conversation, make_key())


def test_who_has_to_wait_for_a_key_keeps_nobody_else_waiting() -> None:
    tenant = make_tenant()
    key = make_key(tenant)
    held = transitions.NewTask(
        tenant_id=tenant.id,
        type="tests.echo",
        queue="default",
        payload={},
        max_retry=0,
        process_timeout=60,
        unique_key="held",
    )
    wanted = {"type": "tests.echo", "unique": {"key": "held"}}

    async def conversation(client: httpx.AsyncClient) -> None:
        with connect("holder") as holder:
            with holder.transaction(), holder.cursor() as cursor:
                assert transitions.insert_tasks(cursor, [held])
                kept = asyncio.create_task(client.post(TASKS, json=wanted))
                others = [client.post(TASKS, json=order) for order in ORDERS]
                async with asyncio.timeout(10):
                    answers = await asyncio.gather(*others)
                assert {answer.status_code for answer in answers} == {202}
                assert not kept.done()
            answer = await kept
            assert (answer.status_code, answer.json()["id"]) == (200, str(held.id))

    talk(conversation, key)


def applicant(tenant_id: int, **fields: Any) -> Applicant:
    values: dict[str, Any] = {"payload": {}, "max_retry": 0, "process_timeout": 60} | fields
    task = transitions.NewTask(tenant_id=tenant_id, type="tests.echo", queue="default", **values)
    return Applicant(task=task)


def test_what_the_store_cannot_hold_of_one_does_not_keep_the_others_out() -> None:
    tenant = make_tenant()
    applicants = [
        applicant(tenant.id),
        applicant(tenant.id, payload={"text": "\0"}),
        applicant(tenant.id),
    ]
    first, wrong, last = submit.admit_together(applicants)
    assert isinstance(wrong, DataError)
    stored = set(Task.objects.filter(tenant=tenant).values_list("id", flat=True))
    assert stored == {applicants[0].task.id, applicants[2].task.id}
    for outcome, one in ((first, applicants[0]), (last, applicants[2])):
        assert not isinstance(outcome, Exception)
        assert (outcome.task_id, outcome.values is None) == (one.task.id, False)


async def each_is_told_that_the_store_is_away(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*[client.post(TASKS, json=order) for order in ORDERS])
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["code"] for answer in answers} == {"store_unavailable"}


def test_what_may_have_been_stored_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def lost(applicants: Sequence[Applicant], **_: Any) -> list[Any]:
        calls.append(len(applicants))
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(submit, "admit", lost)

    talk(each_is_told_that_the_store_is_away, make_key())
    assert sum(calls) == 20


def test_what_cannot_be_asked_of_the_store_is_a_503_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(tasks: Sequence[Any]) -> Any:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(admission, "limited_scopes", lost)

    talk(each_is_told_that_the_store_is_away, make_key())


def test_an_error_of_the_platform_is_answered_to_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(applicants: Sequence[Applicant]) -> list[Any]:
        raise RuntimeError(f"{len(applicants)} applicants")

    monkeypatch.setattr(gathering, "admit_together", broken)

    async def conversation(client: httpx.AsyncClient) -> None:
        posts = [client.post(TASKS, json=order) for order in ORDERS]
        answers = await asyncio.gather(*posts)
        assert {answer.status_code for answer in answers} == {500}
        assert len({answer.json()["request_id"] for answer in answers}) == 20

    talk(conversation, make_key())


def test_a_portion_that_is_stuck_holds_the_next_for_a_moment_only() -> None:
    async def main() -> None:
        stuck = asyncio.Event()
        portions: list[list[int]] = []

        async def carry_out(ones: Sequence[int]) -> list[int]:
            portions.append(list(ones))
            if 0 in ones:
                await stuck.wait()
            return [10 * one for one in ones]

        gatherer: Gatherer[int, int] = Gatherer(carry_out)
        first = asyncio.create_task(gatherer.result_of(0))
        await asyncio.sleep(0.005)
        async with asyncio.timeout(5):
            later = await asyncio.gather(*[gatherer.result_of(one) for one in (1, 2, 3)])
        assert (later, portions, first.done()) == ([10, 20, 30], [[0], [1, 2, 3]], False)
        stuck.set()
        assert await first == 0
        assert await gatherer.result_of(4) == 40

    asyncio.run(main())


def test_portions_are_bounded_and_an_error_is_told_to_those_of_its_portion() -> None:
    async def main() -> None:
        portions: list[int] = []

        async def carry_out(ones: Sequence[int]) -> list[int]:
            portions.append(len(ones))
            if 0 in ones:
                raise ValueError("no thread")
            return list(ones)

        gatherer: Gatherer[int, int] = Gatherer(carry_out)
        many = range(2 * MOST_TOGETHER + 1)
        results = await asyncio.gather(
            *[gatherer.result_of(one) for one in many], return_exceptions=True
        )
        assert portions == [MOST_TOGETHER, MOST_TOGETHER, 1]
        assert [isinstance(one, ValueError) for one in results] == [
            one < MOST_TOGETHER for one in many
        ]
        assert results[MOST_TOGETHER:] == list(many[MOST_TOGETHER:])

    asyncio.run(main())
