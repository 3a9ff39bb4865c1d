"""Connections of the pool: replaced where they were lost, not asked where they just answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connection

from tasks_app.db import connection_parameters
from tests.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def watcher() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(**connection_parameters(), autocommit=True) as one:
        yield one


@pytest.fixture(autouse=True)
def _one_in_the_pool() -> None:
    connection.close()
    connection.close_pool()


def own_pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid() AS taken_from_the_pool")
        return int(cursor.fetchone()[0])


def test_a_connection_that_was_ended_in_the_pool_is_replaced_before_its_next_use(
    watcher: psycopg.Connection[Any],
) -> None:
    before = own_pid()
    connection.close()
    watcher.execute("SELECT pg_terminate_backend(%s)", [before])
    is_there = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    wait_for(lambda: watcher.execute(is_there, [before]).fetchone() == (0,))
    assert own_pid() != before


def test_a_connection_that_has_just_answered_is_not_asked_whether_it_lives(
    watcher: psycopg.Connection[Any],
) -> None:
    for _ in range(4):  # in turn those that there are, of which there may be a second by now
        own_pid()
        connection.close()
    connection.ensure_connection()
    pid = connection.connection.info.backend_pid
    last = watcher.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
    assert last is not None
    assert "taken_from_the_pool" in last[0]


def all_are_back() -> bool:
    """Say whether all connections rest in the pool, one that was asked for and not needed too."""
    stats = connection.pool.get_stats()
    return bool(stats["pool_available"] == stats["pool_size"] >= 3)


def test_the_connection_that_was_used_last_is_taken_next() -> None:
    crowd = threading.Barrier(3)

    def visit() -> int:
        pid = own_pid()
        crowd.wait(timeout=10)
        connection.close()
        return pid

    with ThreadPoolExecutor(3) as threads:
        pids = {future.result() for future in [threads.submit(visit) for _ in range(3)]}
    assert len(pids) == 3
    wait_for(all_are_back)
    taken = []
    for _ in range(6):
        taken.append(own_pid())
        connection.close()
        wait_for(all_are_back)
    assert len(set(taken)) == 1


def test_a_server_that_vanishes_in_silence_is_given_up_in_seconds() -> None:
    connection.ensure_connection()
    shown = {one.keyword.decode(): one.val for one in connection.connection.pgconn.info}
    own = connection_parameters()
    for name in ("connect_timeout", "tcp_user_timeout"):
        assert shown[name] == str(own[name]).encode()
