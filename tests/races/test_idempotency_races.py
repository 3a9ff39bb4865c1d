"""Twins of one Idempotency-Key on real connections."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections

from tasks_app.api import idempotency
from tasks_app.models import IdempotencyRecord, Task
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key
from tests.integration.api_client import Api

pytestmark = pytest.mark.django_db(transaction=True)
BODY = {"type": "tests.order", "payload": {"order_id": 4}}


def submit(token: str, barrier: threading.Barrier | None = None) -> Any:
    try:
        if barrier is not None:
            barrier.wait(20)
        return Api(token).post("/tasks", BODY, Idempotency_Key="twin")
    finally:
        connections.close_all()


def test_eight_twins_at_once_make_one_task_and_get_one_answer() -> None:
    token, barrier = make_key(), threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: submit(token, barrier), range(8)))
    accepted = [answer for answer in answers if answer.status_code == 202]
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in accepted}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in accepted) == 1
    assert Task.objects.count() == 1


def test_a_twin_of_an_unfinished_request_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idempotency, "LOCK_TIMEOUT", "100ms")
    token, inside, leave = make_key(), threading.Event(), threading.Event()
    plain = idempotency.Record.close

    def slow(record: idempotency.Record, answer: idempotency.Answer) -> None:
        inside.set()
        leave.wait(20)
        plain(record, answer)

    monkeypatch.setattr(idempotency.Record, "close", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(submit, token)
        assert inside.wait(20)
        twin = submit(token)
        leave.set()
        assert first.result(20).status_code == 202
    assert (twin.status_code, twin.json()["code"]) == (409, "idempotency_in_flight")
    assert twin.headers["Retry-After"] == "1"
    assert submit(token).headers["Idempotency-Replayed"] == "true"
    assert Task.objects.count() == 1


def test_a_connection_lost_before_the_commit_leaves_neither_task_nor_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = make_key()
    plain = idempotency.Record.close

    def cut(record: idempotency.Record, answer: idempotency.Answer) -> None:
        plain(record, answer)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with monkeypatch.context() as patch:
        patch.setattr(idempotency.Record, "close", cut)
        lost = submit(token)
    assert (lost.status_code, lost.json()["code"]) == (503, "store_unavailable")
    assert (Task.objects.count(), IdempotencyRecord.objects.count()) == (0, 0)
    assert submit(token).status_code == 202
