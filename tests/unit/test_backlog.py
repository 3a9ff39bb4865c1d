"""The dispatch loop's look at what is ready."""

from __future__ import annotations

from dataclasses import fields

from tasks_app.dispatch import backlog


def test_the_look_asks_for_every_field_of_a_ready_queue_by_its_name() -> None:
    assert list(backlog._COLUMNS) == [field.name for field in fields(backlog.ReadyQueue)]
