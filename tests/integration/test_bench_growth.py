"""The rows that `make bench-growth` loads are tasks as the platform makes them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from bench.growth import ARCHIVE, FINISHED_CHANGES, PARKED, WAITING_CHANGES, copy_task
from bench.processes import BenchFault
from tasks_app.models import Task
from tests.factories import make_task

pytestmark = pytest.mark.django_db


def raw() -> Any:
    """Give psycopg's own connection of the test's transaction."""
    connection.ensure_connection()
    return connection.connection


def test_copies_are_older_tasks_of_the_same_kind_with_ids_of_their_own() -> None:
    done = Task.objects.get(id=make_task(state="success"))
    copy_task(raw(), 50, "state = 'success'", FINISHED_CHANGES)
    copies = Task.objects.filter(queue=ARCHIVE).order_by("-id")
    assert len({one.id for one in copies}) == 50
    assert all(one.id < done.id and one.finished_at < done.finished_at for one in copies)
    assert {(one.state, one.type, one.tenant_id) for one in copies} == {
        ("success", done.type, done.tenant_id)
    }
    ends = [one.finished_at for one in copies]
    assert ends == sorted(ends, reverse=True)


def test_waiting_copies_stay_in_the_parked_queue() -> None:
    make_task(queue=PARKED)
    copy_task(raw(), 20, f"state = 'queued' AND queue = '{PARKED}'", WAITING_CHANGES)
    assert Task.objects.filter(queue=PARKED, state="queued").count() == 21


def test_nothing_to_copy_is_told() -> None:
    with pytest.raises(BenchFault, match="0 of 3 tasks were copied where state = 'success'"):
        copy_task(raw(), 3, "state = 'success'", FINISHED_CHANGES)
