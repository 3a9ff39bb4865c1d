"""How long the database has answered without a gap."""

from __future__ import annotations

from tasks_app.loops import Health


def test_health_counts_from_the_first_answer_and_survives_short_gaps() -> None:
    health = Health(gap_seconds=5.0)
    assert health.seconds(10.0) == 0.0
    for now in (10.0, 14.0, 18.0):
        health.seen(now)
    assert health.seconds(19.0) == 9.0


def test_a_long_silence_begins_the_count_anew() -> None:
    health = Health(gap_seconds=5.0)
    health.seen(10.0)
    assert health.seconds(16.0) == 0.0
    health.seen(30.0)
    assert health.seconds(31.0) == 1.0


def test_an_error_begins_the_count_anew() -> None:
    health = Health(gap_seconds=5.0)
    health.seen(10.0)
    health.lost()
    assert health.seconds(11.0) == 0.0
    health.seen(12.0)
    assert health.seconds(13.0) == 1.0
