"""A step of the maintain loop that fails: the others run, operators are told, it is tried later."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from tasks_app.conf import conf
from tasks_app.db import Cursor, connect
from tasks_app.leadership import Leadership
from tasks_app.loops import Health, Round, Stop, Turn
from tasks_app.maintenance import failing, loop
from tasks_app.maintenance.loop import MaintainWork, maintain_steps
from tasks_app.maintenance.step import StepResult, StepTurn
from tasks_app.models import FailedStep
from tasks_app.selectors.platform import FAILING_SECONDS
from tasks_app.services.measuring import forget_metrics, read_metrics
from tests.engines import running_loop
from tests.factories import make_task, task_state
from tests.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def poison(kind: str) -> Iterator[None]:
    """Tasks of a type that cannot become ready."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'poison'; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON taskmill_task FOR EACH ROW"
            f" WHEN (new.type = '{kind}' AND new.state = 'queued') EXECUTE FUNCTION refuse()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse() CASCADE")


def figures(name: str) -> dict[str, float]:
    forget_metrics()
    found = read_metrics()
    return {one.labels[0]: float(one.value) for one in found if one.metric.name == name}


def doctor() -> str:
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", stdout=out)
    return out.getvalue()


def test_a_row_that_breaks_a_step_starves_no_other_and_is_told_of() -> None:
    settings = replace(conf(), maintain_poll_seconds=0.05)
    with poison("poison"), running_loop(MaintainWork(maintain_steps(settings)), settings):
        broken = make_task(state="scheduled", type="poison", delay_seconds=0.01)
        late = make_task(queue_timeout=1)
        wait_for(lambda: task_state(late) == "timeout", reason="expired behind the broken step")
        assert task_state(broken) == "scheduled"
        wait_for(lambda: figures("taskmill_step_failures").get("promote", 0) >= 2, reason="counted")
        assert figures("taskmill_step_failing") == {"promote": 1}
        assert "FAULT step.promote RaiseException: poison" in " ".join(doctor().split())
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER refuse ON taskmill_task")
        wait_for(lambda: task_state(broken) == "queued", reason="mended")


def test_a_step_that_fails_no_more_is_well_again_to_the_doctor() -> None:
    FailedStep.objects.create(
        step="promote", failures=7, failed_at="2020-01-01T00:00Z", reason="KeyError: 'x'"
    )
    assert figures("taskmill_step_failures") == {"promote": 7}
    assert figures("taskmill_step_failing") == {"promote": 0}
    assert "ok steps none fails" in " ".join(doctor().split())


class Broken:
    """A step that fails in a way."""

    name = "broken"
    interval_seconds = 0.0

    def __init__(self, way: str) -> None:
        self.way = way

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        match self.way:
            case "a bug":
                raise KeyError("x")
            case "a statement that takes too long":
                cursor.execute("SET statement_timeout = 20")
                cursor.execute("SELECT pg_sleep(60)")
            case "an open transaction":
                cursor.execute("BEGIN")
                cursor.execute("SELECT 1/0")
            case "a lost connection":
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return StepResult(count=1)


class Next:
    """A step behind it."""

    name = "next"
    interval_seconds = 1e9

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        cursor.execute("SELECT 1")
        return StepResult(count=1)


@pytest.fixture
def turn() -> Iterator[Turn]:
    stop = Stop()
    with connect("maintain") as opened:
        lead = Leadership(loop="maintain", token=1)
        yield Turn(connection=opened, leadership=lead, stop=stop, health=Health(5.0))
    stop.close()


@pytest.mark.parametrize("way", ["a bug", "a statement that takes too long", "an open transaction"])
def test_whatever_breaks_a_step_the_next_runs(turn: Turn, way: str) -> None:
    done: Round = MaintainWork([Broken(way), Next()]).run_once(turn)
    assert done.counts == {"broken": 0, "next": 1}
    assert done.wait_seconds > 0
    assert FailedStep.objects.get().failures == 1


def test_a_lost_connection_ends_the_round_and_is_no_fault_of_the_step(turn: Turn) -> None:
    with pytest.raises(psycopg.OperationalError):
        MaintainWork([Broken("a lost connection"), Next()]).run_once(turn)
    assert not FailedStep.objects.exists()


def test_a_broken_step_is_tried_less_and_less_but_always_seen(turn: Turn, monkeypatch: Any) -> None:
    now = 0.0
    monkeypatch.setattr(loop, "monotonic", lambda: now)
    step = Broken("a bug")
    work = MaintainWork([step])
    waits = []
    for _ in range(12):
        waits.append(work.run_once(turn).wait_seconds)
        now += waits[-1]
    assert all(later > 1.9 * sooner for sooner, later in itertools.pairwise(waits[:9]))
    assert waits[-1] == pytest.approx(failing.BACKOFF_MOST_SECONDS)
    assert waits[-1] * 2 < FAILING_SECONDS
    step.way = ""
    work.run_once(turn)
    step.way = "a bug"
    assert work.run_once(turn).wait_seconds == pytest.approx(waits[0])
