"""Bundles through a real engine and a real worker."""

from __future__ import annotations

import uuid
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.dispatch.bundles import MEASURE_SECONDS, MOST_IN_BUNDLE, Bundle, measure_sizes
from tasks_app.models import Attempt, Task
from tests import task_handlers  # noqa: F401 - registers the types
from tests.engines import Dispatcher, dispatcher, new_queue, read_hints
from tests.factories import make_task, make_tenant, make_worker, task_state
from tests.processes import running_worker, wait_for
from tests.protocol.checkers import read_history, violations

pytestmark = pytest.mark.django_db(transaction=True)


def run_one(seconds: float, outcome: str = "success") -> None:
    """Leave a finished attempt of `demo.echo` behind."""
    task = Task.objects.get(pk=make_task(type="demo.echo", state="success"))
    ended = task.finished_at
    assert ended is not None
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE taskmill_attempt
            SET outcome = %s, finished_at = started_at + %s * interval '1 s' WHERE task_id = %s""",
            [outcome, seconds, task.pk],
        )


def sizes(known: dict[str, int] | None = None) -> dict[str, int]:
    with connection.cursor() as cursor:
        return measure_sizes(cursor, known or {})


def test_only_types_that_were_fast_and_well_lately_travel_together() -> None:
    for _ in range(19):
        run_one(0.0001)
    assert sizes() == {}
    run_one(0.0001)
    assert sizes() == {"demo.echo": MOST_IN_BUNDLE}
    for _ in range(5):
        run_one(0.02)
    assert sizes() == {"demo.echo": 2}
    run_one(0.001, outcome="lost")
    assert sizes() == {"demo.echo": 1}


def test_what_was_measured_counts_until_a_type_has_run_often_again() -> None:
    known = {"demo.echo": 40, "demo.other": 7}
    assert sizes(known) == known
    for _ in range(20):
        run_one(0.02)
    assert sizes(known) == {"demo.echo": 2, "demo.other": 7}
    run_one(0.001, outcome="timeout")
    assert sizes(known) == {"demo.echo": 1, "demo.other": 7}


def test_a_type_that_has_just_become_known_travels_together_soon(valkey: Any) -> None:
    queue = new_queue()
    make_worker(queue, slots=1)
    with dispatcher(window_least=100) as one:
        assert messages(one, queue) == 8
        for _ in range(20):
            run_one(0.001)
        sleep(0.15)
        assert messages(one, queue) < 8


def messages(one: Dispatcher, queue: str) -> int:
    """Dispatch eight more tasks; gives in how many messages."""
    for _ in range(8):
        make_task(make_tenant("default"), type="demo.echo", queue=queue, payload={"n": 1})
    counts = one.round().counts
    assert counts["dispatched"] == 8
    return counts["messages"]


def test_a_type_does_not_travel_alone_again_because_others_ran_since(valkey: Any) -> None:
    queue = new_queue()
    make_worker(queue, slots=1)
    for _ in range(20):
        run_one(0.001)
    with dispatcher(window_least=100) as one:
        assert messages(one, queue) < 8
        Attempt.objects.all().delete()
        sleep(MEASURE_SECONDS + 0.1)
        assert messages(one, queue) < 8


def test_a_backlog_of_fast_tasks_leaves_in_few_messages_and_each_task_keeps_its_history(
    valkey: Any,
) -> None:
    for _ in range(20):
        run_one(0.001)
    tenant, queue = make_tenant("default"), new_queue()
    tasks = [make_task(tenant, type="demo.echo", queue=queue, payload={"n": 1}) for _ in range(40)]
    make_worker(queue, slots=2)
    with dispatcher(window_least=40) as one:
        counts = one.round().counts
    assert counts["dispatched"] == 40
    assert counts["messages"] == 4
    with running_worker(queues=queue):
        wait_for(lambda: {task_state(one) for one in tasks} == {"success"}, seconds=30)
    with connection.cursor() as cursor:
        history = read_history(cursor)
    ours = [text for text in violations(history) if any(str(one) in text for one in tasks)]
    assert ours == []
    assert Attempt.objects.filter(task_id__in=tasks, outcome="success").count() == 40


@pytest.mark.parametrize(("most", "messages"), [(1, 40), (4, 10)])
def test_an_operator_bounds_them_for_all_types(valkey: Any, most: int, messages: int) -> None:
    for _ in range(20):
        run_one(0.0001)
    tenant, queue = make_tenant("default"), new_queue()
    for _ in range(40):
        make_task(tenant, type="demo.echo", queue=queue)
    make_worker(queue, slots=1)
    with dispatcher(window_least=40, bundle_most=most) as one:
        assert one.round().counts["messages"] == messages
    hints = read_hints(queue)
    assert len(hints) == 40
    assert {hint.headers["together"] for hint in hints} == {MOST_IN_BUNDLE}


def test_a_few_are_sent_alone_and_say_how_many_may_run_together(valkey: Any) -> None:
    for _ in range(20):
        run_one(0.01)
    tenant, queue = make_tenant("default"), new_queue()
    make_worker(queue, slots=1)
    with dispatcher(window_least=40) as one:
        for _ in range(2):  # what is learned after the first round is told in the second
            for task_type in ("demo.echo", "tests.echo", "tests.pair"):
                make_task(tenant, type=task_type, queue=queue)
            one.round()
    told = {hint.type: hint.headers.get("together") for hint in read_hints(queue)}
    assert told == {"demo.echo": 4, "tests.echo": None, "tests.pair": 2}


def test_a_type_that_names_its_bundle_needs_no_run_times(valkey: Any) -> None:
    tenant, queue = make_tenant("default"), new_queue()
    for number in range(30):
        make_task(tenant, type=("tests.pair", "tests.echo")[number % 2], queue=queue)
    make_worker(queue, slots=1)
    with dispatcher(window_least=30) as one:
        assert one.round().counts["messages"] == 8 + 15


def test_a_child_that_dies_gives_the_rest_of_its_message_back_at_once(
    valkey: Any, tmp_path: Path
) -> None:
    tenant, queue = make_tenant("default"), new_queue()
    place = {"path": str(tmp_path / "ran")}
    ids = [make_task(tenant, type="test.exit", queue=queue, payload=place) for _ in range(3)]
    with connection.cursor() as cursor:
        dispatched, _ = transitions.dispatch(cursor, queue=queue, room=3)
    from tasks_app.dispatch.publish import make_publisher

    publisher = make_publisher()
    publisher.open()
    with running_worker(queues=queue):
        publisher.publish([Bundle(dispatched)])
        publisher.close()
        first, *rest = (task.id for task in dispatched)
        assert isinstance(first, uuid.UUID)
        wait_for(lambda: task_state(first) not in {"dispatched", "running"}, seconds=20)
        wait_for(lambda: {task_state(one) for one in rest} == {"queued"}, seconds=10)
    assert set(ids) == {first, *rest}
