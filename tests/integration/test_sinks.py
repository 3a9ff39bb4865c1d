"""Sinks read the feed from their own cursor: nothing is passed over, whoever leads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from notifications.models import WebhookEndpoint
from notifications.webhooks.sink import WebhookSink
from tasks_app import leadership
from tasks_app.db import connect
from tasks_app.leadership import LeadershipLost
from tasks_app.loops import Health, Round, Stop, Turn
from tasks_app.models import FeedCursor
from tasks_app.platform import FeedEvent, FeedSink, InfrastructureError, SinkWork
from tests.factories import make_task, make_tenant
from tests.relays import relay
from tests.webhooks import make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


class Away(InfrastructureError):
    """The receiver does not answer."""

    code = "receiver_away"


class Receiver(FeedSink):
    """Keeps what it is given; takes at most `most` events of a page; is away when told so."""

    name = "tests"

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.recorded: list[int] = []
        self.most = 1000
        self.is_away = False
        self.is_deaf = False

    def is_listening(self, _cursor: Any) -> bool:
        return not self.is_deaf

    def deliver(self, events: Sequence[FeedEvent]) -> int:
        if self.is_away:
            raise Away
        taken = events[: self.most]
        self.sent += [one.sequence for one in taken]
        return len(taken)

    def record(self, _cursor: Any, events: Sequence[FeedEvent]) -> None:
        self.recorded += [one.sequence for one in events]


class Leader:
    """A sink's work under the test's hand."""

    def __init__(self, sink: FeedSink, holder: str) -> None:
        self.work = SinkWork(sink)
        self.connection = connect("tests")
        self.holder = holder
        self.turn: Turn | None = None

    def lead(self, *, lease_seconds: float = 60.0) -> None:
        held = leadership.hold(
            self.connection.cursor(), loop="tests", holder=self.holder, lease_seconds=lease_seconds
        )
        assert held is not None
        self.turn = Turn(
            connection=self.connection, leadership=held, stop=Stop(), health=Health(5.0)
        )

    def round(self) -> Round:
        if self.turn is None:
            self.lead()
        assert self.turn is not None
        return self.work.run_once(self.turn)


@contextmanager
def leader(sink: FeedSink, holder: str = "first") -> Iterator[Leader]:
    one = Leader(sink, holder)
    try:
        yield one
    finally:
        one.connection.close()


def fill(tasks: int) -> list[int]:
    """Submit tasks, sequence their events; gives all sequences."""
    for _ in range(tasks):
        make_task()
    with relay() as one:
        one.drain()
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(last_sequence), 0) FROM taskmill_feed")
        return list(range(1, cursor.fetchone()[0] + 1))


def test_a_new_sink_begins_with_the_oldest_event_and_gets_each_once() -> None:
    everything = fill(3)
    receiver = Receiver()
    with leader(receiver) as one:
        assert one.round().counts == {"events": len(everything)}
        assert one.round().counts == {}
    assert receiver.sent == receiver.recorded == everything
    assert FeedCursor.objects.get(sink="tests").sequence == everything[-1]


def test_while_nobody_listens_the_cursor_moves_on_and_nothing_is_read() -> None:
    before = fill(3)
    receiver = Receiver()
    receiver.is_deaf = True
    with leader(receiver) as one:
        assert one.round().counts == {"passed_over": len(before)}
        assert FeedCursor.objects.get(sink="tests").sequence == before[-1]
        assert one.round().counts == {}
        receiver.is_deaf = False
        everything = fill(1)
        one.round()
    assert receiver.sent == receiver.recorded == everything[len(before) :]


def test_webhooks_listen_for_endpoints_in_use_and_for_tasks_with_receivers_of_their_own() -> None:
    sink = WebhookSink()
    with connection.cursor() as cursor:
        make_task()
        assert not sink.is_listening(cursor)
        tenant = make_tenant()
        endpoint, _ = make_endpoint(tenant, "https://receiver.example/")
        assert sink.is_listening(cursor)
        WebhookEndpoint.objects.filter(id=endpoint).update(is_enabled=False)
        assert not sink.is_listening(cursor)
        make_task(webhook_urls=["https://receiver.example/"])
        assert sink.is_listening(cursor)


def test_a_receiver_that_takes_part_of_a_page_is_given_the_rest() -> None:
    everything = fill(4)
    receiver = Receiver()
    receiver.most = 3
    with leader(receiver) as one:
        one.round()
        assert FeedCursor.objects.get(sink="tests").sequence == everything[2]
        receiver.most = 0
        assert one.round().wait_seconds > 0
        receiver.most = 1000
        one.round()
    assert receiver.sent == receiver.recorded == everything


def test_a_receiver_that_is_away_loses_nothing() -> None:
    receiver = Receiver()
    receiver.is_away = True
    everything = fill(2)
    with leader(receiver) as one:
        with pytest.raises(Away):
            one.round()
        assert not FeedCursor.objects.exists()
        receiver.is_away = False
        one.round()
    assert receiver.recorded == everything


def test_another_leader_goes_on_where_the_first_stood_and_the_first_moves_nothing() -> None:
    everything = fill(2)
    first, second = Receiver(), Receiver()
    with leader(first) as old, leader(second, "second") as new:
        old.lead(lease_seconds=0.0)
        new.lead()
        with pytest.raises(LeadershipLost):
            old.round()
        assert first.recorded == []
        new.round()
        more = fill(1)
        new.round()
    assert second.recorded == more
    assert more[: len(everything)] == everything


def test_a_sink_away_for_longer_than_the_feed_is_kept_goes_on_with_what_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = Receiver()
    fill(1)
    with leader(receiver) as one:
        one.round()
        fill(1)
        everything = fill(1)
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM taskmill_feed WHERE last_sequence < %s", [everything[-1]])
        one.round()
    assert receiver.sent[-1] == everything[-1]
    assert "events are lost to it" in caplog.text
