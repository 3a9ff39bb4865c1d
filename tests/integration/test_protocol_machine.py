"""The protocol on real PostgreSQL beside its reference: drops, doubles, crashes, zombies, time.

Every example is one transaction in which the clock stands where the test puts it, so that each row
is compared with the reference to the microsecond after each step. `make soak` goes deeper;
`TASKMILL_PROTOCOL_EXAMPLES` and `TASKMILL_PROTOCOL_WALKS` say how deep.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tasks_app.db import connect
from tests.protocol.machine import Protocol
from tests.protocol.walk import Walk


@pytest.fixture
def connection(db: None) -> Iterator[psycopg.Connection[Any]]:
    with connect("protocol") as opened:
        opened.execute("SET statement_timeout = 0")
        opened.execute("SET idle_in_transaction_session_timeout = 0")
        yield opened


MUST_BE_SEEN = (
    "bundle partly claimed",
    "succeed of a bundle taken",
    "succeed of a bundle refused",
    "interrupt of a bundle taken",
    "interrupt of a bundle refused",
    "claim",
    "stale hint dropped",
    "hint dropped",
    "swept",
    "undispatched",
    "returned",
    "hand_back queued",
    "rescued",
    "rescued too often",
    "ran too long",
    "succeed refused",
    "interrupt refused",
    "retry taken",
    "interrupt taken",
    "cancel confirmed",
    "cancel of running",
    "cancel of cancelling",
    "cancel of queued",
    "cancel of blocked",
    "cancel of retrying",
    "cancel of scheduled",
    "cancel of dispatched",
    "redriven",
    "redrive refused",
    "revised",
    "promoted",
    "unique submit refused",
    "blocked",
    "unblocked",
)


def _run_state_machine(
    connection: psycopg.Connection[Any], *, max_examples: int, step_count: int
) -> None:
    Protocol.connection = connection
    run_state_machine_as_test(
        Protocol,
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=step_count,
            deadline=None,
            database=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_store_does_what_the_reference_does_and_everything_ends_after_healing(
    connection: psycopg.Connection[Any],
) -> None:
    _run_state_machine(connection, max_examples=60, step_count=40)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_the_store_does_what_the_reference_does_over_thousands_of_examples(
    connection: psycopg.Connection[Any],
) -> None:
    examples = int(os.environ.get("TASKMILL_PROTOCOL_EXAMPLES", "5000"))
    _run_state_machine(connection, max_examples=examples, step_count=100)


def test_long_random_lives_do_what_the_reference_does_and_see_every_kind_of_fault(
    connection: psycopg.Connection[Any],
) -> None:
    Protocol.connection = connection
    Protocol.seen.clear()
    for seed in range(int(os.environ.get("TASKMILL_PROTOCOL_WALKS", "25"))):
        Walk(seed).run(250)
    assert [what for what in MUST_BE_SEEN if Protocol.seen[what] == 0] == []
