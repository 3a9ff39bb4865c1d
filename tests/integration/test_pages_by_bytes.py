"""A page of the task list is bounded in bytes too: it has fewer large tasks, and none is lost."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.db import connection

from tasks_app.models import Tenant
from tasks_app.selectors.lists import PAGE_BYTES
from tests.attempts import succeed_one
from tests.factories import claim, drive, make_key, make_task, make_tenant
from tests.integration.api_client import Api

pytestmark = pytest.mark.django_db
LARGE = 900_000
TASKS = 24
MOST_OF_ONE = 2 * LARGE + 10_000


def plain() -> str:
    return "a" * LARGE


def random() -> str:
    return secrets.token_urlsafe(LARGE * 3 // 4)


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


def walk(api: Api, path: str, way: str) -> list[Any]:
    """Read all pages from this one on, by `next` or by `previous`."""
    pages = []
    found: str | None = path
    while found:
        answer = api.get("/api/" + found.split("/api/", 1)[1] if "/api/" in found else found)
        assert answer.status_code == 200
        assert len(answer.content) < PAGE_BYTES + MOST_OF_ONE
        pages.append(answer.json())
        found = pages[-1][way]
    return pages


def ids(page: Any) -> list[str]:
    return [task["id"] for task in page["results"]]


@pytest.mark.parametrize("text", [plain, random])
@pytest.mark.parametrize("place", ["payload", "result"])
def test_large_tasks_come_fewer_to_a_page_and_none_is_lost(
    api: Api, tenant: Tenant, place: str, text: Callable[[], str]
) -> None:
    large = {"text": text()}
    made = [_made(tenant, place, large) for _ in range(TASKS)]
    for sort, wanted in (("created_at", made), ("-created_at", made[::-1])):
        pages = walk(api, f"/tasks?limit=200&sort={sort}", "next")
        assert len(pages) == 3
        assert [task for page in pages for task in ids(page)] == wanted
        assert pages[0]["results"][0][place] == large
        back = walk(api, pages[-1]["previous"], "previous")[::-1]
        assert [task for page in back for task in ids(page)] == wanted[: -len(ids(pages[-1]))]


@pytest.mark.parametrize(
    ("place", "value", "payload"),
    [
        ("metadata", {"text": "a" * 60_000}, {}),
        ("result", {"numbers": [1e308] * 60}, {"text": "a" * 28_000}),
    ],
)
def test_what_is_small_in_the_store_and_large_in_the_answer_counts_as_large(
    api: Api, tenant: Tenant, place: str, value: Any, payload: Any
) -> None:
    made = [_made(tenant, place, value, payload=payload) for _ in range(200)]
    pages = walk(api, "/tasks?limit=200&sort=created_at", "next")
    assert len(pages) == 2
    assert [task for page in pages for task in ids(page)] == made


def test_small_tasks_are_as_many_as_the_limit_says(api: Api, tenant: Tenant) -> None:
    made = [str(make_task(tenant)) for _ in range(5)]
    page = api.get("/tasks?limit=5&sort=created_at").json()
    assert (ids(page), page["next"]) == (made, None)


def _made(tenant: Tenant, place: str, large: Any, **others: Any) -> str:
    if place != "result":
        return str(make_task(tenant, **others | {place: large}))
    task_id = make_task(tenant, **others)
    drive(task_id, "dispatched")
    result = orjson.dumps(large).decode()
    epoch = claim(task_id)
    with connection.cursor() as cursor:
        assert succeed_one(cursor, task_id, epoch=epoch, result=result)
    return str(task_id)
