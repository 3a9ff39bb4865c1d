"""The relay looks seldom while nothing goes on, and is rung for by what comes then."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tasks_app.conf import conf
from tasks_app.db import connect
from tasks_app.loops import Loop, Stop
from tasks_app.relay import resting
from tasks_app.relay.loop import RelayWork
from tests.factories import drive, make_task, make_tenant
from tests.processes import wait_for
from tests.relays import Relay, event_count, feed_rows, relay

pytestmark = pytest.mark.django_db(transaction=True)
LONG_SECONDS = 3600.0


@pytest.fixture
def one() -> Iterator[Relay]:
    with relay() as found:
        yield found


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting, "AFTER_SECONDS", 0.0)


def is_listening(one: Relay) -> bool:
    return one.connection.execute("SELECT pg_listening_channels()").fetchall() != []


def rounds(one: Relay) -> list[float]:
    """Run two rounds and give their pauses."""
    return [one.round().wait_seconds for _ in range(2)]


def test_right_after_events_it_looks_as_often_as_the_setting_says(one: Relay) -> None:
    assert rounds(one) == [conf().relay_poll_seconds] * 2
    assert not is_listening(one)


@pytest.mark.usefixtures("_at_once")
def test_it_listens_and_looks_once_more_before_it_rests(one: Relay) -> None:
    assert rounds(one) == [0.0, resting.LOOK_SECONDS]
    assert is_listening(one)


@pytest.mark.usefixtures("_at_once")
def test_an_event_ends_the_rest_and_the_listening(one: Relay) -> None:
    rounds(one)
    make_task()
    assert one.round().counts == {"events": 1}
    assert not is_listening(one)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("state", ["dispatched", "running", "cancelling"])
def test_it_does_not_rest_while_a_task_is_under_way(one: Relay, state: str) -> None:
    task_id = make_task()
    drive(task_id, state)
    one.drain()
    assert rounds(one) == [conf().relay_poll_seconds] * 2


@pytest.mark.usefixtures("_at_once")
def test_it_does_not_rest_while_an_event_may_still_turn_up(one: Relay) -> None:
    late = connect("late")
    with late, late.transaction():
        late.execute("SELECT nextval(pg_get_serial_sequence('taskmill_event', 'id'))")
        late.execute("SELECT pg_current_xact_id()")
        make_task()
        one.drain()
        assert rounds(one) == [conf().relay_poll_seconds] * 2
    wait_for(lambda: one.round().wait_seconds == resting.LOOK_SECONDS)


@pytest.mark.usefixtures("_at_once")
def test_a_leader_that_steps_down_listens_no_more(one: Relay) -> None:
    rounds(one)
    one.work.rest(one.connection)
    assert not is_listening(one)


@pytest.mark.usefixtures("_at_once")
def test_a_submission_wakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting, "LOOK_SECONDS", LONG_SECONDS)
    tenant, stop, watcher = make_tenant(), Stop(), connect("watcher")
    loop = Loop(RelayWork(conf()), stop=stop, lease_seconds=LONG_SECONDS, health_gap_seconds=5.0)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        with watcher:
            is_resting = """SELECT count(*) FROM pg_stat_activity
                WHERE application_name = 'taskmill-relay' AND state = 'idle'
                    AND query LIKE '%pg_snapshot_xmin%'
                    AND state_change < clock_timestamp() - interval '0.3 s'"""
            wait_for(lambda: watcher.execute(is_resting).fetchone() != (0,))
            make_task(tenant)
            wait_for(lambda: event_count() == len(feed_rows()) == 1)
    finally:
        stop.set()
        thread.join(timeout=10)
        stop.close()
