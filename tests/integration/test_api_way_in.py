"""The ASGI way in: bodies bounded while read, waits without threads, the site beside it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import pytest
from django.core.asgi import get_asgi_application
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from tasks_app.api.asgi import api_application
from tasks_app.api.parsers import default_body_bytes
from tasks_app.api.views import ApiRequest
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant

pytestmark = pytest.mark.django_db(transaction=True)
Talk = Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]


def talk(conversation: Talk, token: str = "") -> Any:
    async def main() -> Any:
        application: Any = api_application(get_asgi_application())
        transport = httpx.ASGITransport(app=application)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as client:
            return await conversation(client)

    return asyncio.run(main())


def test_a_submission_and_its_reading_travel_through_threads() -> None:
    token = make_key()

    async def conversation(client: httpx.AsyncClient) -> None:
        body = {"type": "tests.order", "payload": {"order_id": 1}}
        answers = await asyncio.gather(
            *[client.post("/api/v1/tasks", json=body) for _ in range(20)]
        )
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 20
        seen = await client.get(answers[0].headers["Location"])
        assert seen.json()["status"] == "pending"
        assert seen.headers["X-Content-Type-Options"] == "nosniff"
        assert len(seen.headers["X-Request-Id"]) == 36

    talk(conversation, token)


def test_nothing_of_a_request_is_left_for_the_collection_of_garbage() -> None:
    token = make_key()

    def left() -> list[object]:
        kinds = (ApiRequest, HttpRequest, HttpResponseBase)
        return [one for one in gc.get_objects() if isinstance(one, kinds)]

    async def conversation(client: httpx.AsyncClient) -> None:
        body = {"type": "tests.order", "payload": {"order_id": 1}}
        gc.collect()
        before = len(left())
        gc.disable()
        for _ in range(3):
            made = await client.post("/api/v1/tasks", json=body)
            assert made.status_code == 202
            assert (await client.get("/api/v1/tasks")).status_code == 200
            headers = {"Prefer": "wait=1", "If-None-Match": made.headers["ETag"]}
            seen = await client.get(made.headers["Location"], headers=headers)
            assert seen.status_code == 304
            assert (await client.post("/api/v1/tasks", json=[])).status_code == 422
        assert len(left()) - before < 12  # requests; a thread keeps its last until the next

    try:
        talk(conversation, token)
    finally:
        gc.enable()


def test_an_endless_body_is_refused_while_it_is_read() -> None:
    sent: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield b"x" * 65_536

    async def conversation(client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/v1/tasks", content=endless())
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")

    talk(conversation)
    assert len(sent) <= default_body_bytes() // 65_536 + 2


def test_a_body_without_a_declared_length_is_read() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"queue": '
        yield b'"none"}'

    async def conversation(client: httpx.AsyncClient) -> None:
        headers = {"Content-Type": "application/json"}
        answer = await client.post("/api/v1/dead-letters/retry", content=chunks(), headers=headers)
        assert (answer.status_code, answer.json()) == (202, {"count": 0})

    talk(conversation, make_key())


def test_what_the_api_does_not_have_is_a_problem_and_pages_are_served_beside_it() -> None:
    async def conversation(client: httpx.AsyncClient) -> None:
        missing = await client.get("/api/v1/nothing")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        odd = await client.get("/api/v1/workers", headers={"Host": "evil.example"})
        assert (odd.status_code, odd.json()["code"]) == (400, "bad_request")
        assert (await client.get("/livez", headers={"Host": "10.1.2.3"})).status_code == 200
        assert "first task" in (await client.get("/")).text

    talk(conversation)


def test_a_wait_ends_with_the_tasks_state_and_holds_no_thread() -> None:
    tenant = make_tenant("acme")
    task_id = make_task(tenant)

    async def conversation(client: httpx.AsyncClient) -> None:
        waits = [
            client.get(f"/api/v1/tasks/{task_id}", headers={"Prefer": f"wait={seconds}"})
            for seconds in [20] * 12
        ]
        pending = asyncio.gather(*waits)
        others = await asyncio.gather(*[client.get("/api/v1/workers") for _ in range(20)])
        assert {other.status_code for other in others} == {200}
        assert not pending.done()
        stop = await client.post(f"/api/v1/tasks/{task_id}/cancel", json={})
        assert stop.status_code == 200
        assert {answer.json()["status"] for answer in await pending} == {"cancelled"}

    talk(conversation, make_key(tenant))


def test_a_token_in_the_clear_is_refused_where_there_is_tls(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True

    async def conversation(client: httpx.AsyncClient) -> None:
        assert (await client.get("/api/v1/workers")).status_code == 403
        assert (await client.get("/livez")).status_code == 200

    talk(conversation, make_key())


def test_a_path_that_is_not_utf_8_is_refused_and_not_read_as_another() -> None:
    token = make_key()

    async def conversation(client: httpx.AsyncClient) -> list[int]:
        path = "/api/v1/concurrency-keys"
        return [
            (await client.patch(f"{path}/{key}", json={"concurrency": 3})).status_code
            for key in ("%ff", "a%fe", "%EF%BF%BD%ff", "%EF%BF%BD", "%C3%A9")
        ]

    assert talk(conversation, token) == [400, 400, 400, 200, 200]
