"""Upgrades of an installation that runs: nobody waits for an index, and none is given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.signals import pre_migrate

from tasks_app import transitions
from tasks_app.db import connect
from tests.factories import make_task, make_tenant
from tests.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE = "0017_awaited"
INDEXES = {"task_done_at", "task_dead_at"}


def migrate(*names: str) -> None:
    call_command("migrate", *names, interactive=False, verbosity=0)


def setting(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s)", [name])
        return str(cursor.fetchone()[0])


@contextmanager
def migrated_to(name: str) -> Iterator[None]:
    """The schema of a former version for the duration."""
    migrate("tasks_app", name)
    try:
        yield
    finally:
        migrate("tasks_app")


def valid_indexes() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indrelid = 'taskmill_task'::regclass AND i.indisvalid"
        )
        return {row[0] for row in cursor.fetchall()}


def test_a_migration_is_not_given_up_however_long_a_statement_of_it_takes() -> None:
    seen = []

    def look(**_: Any) -> None:
        seen.append(setting("statement_timeout"))

    before = setting("statement_timeout")
    pre_migrate.connect(look)
    try:
        migrate()
    finally:
        pre_migrate.disconnect(look)
    assert seen[-1] == "0"
    assert setting("statement_timeout") == before != "0"


def test_tasks_are_submitted_while_the_indexes_of_retention_are_made() -> None:
    tenant = make_tenant()
    with migrated_to(BEFORE), connect("writer") as writer, connect("other") as other:
        assert not valid_indexes() & INDEXES
        with writer.transaction():
            submit(writer, tenant.pk)
            upgrade = threading.Thread(target=impatient_migration)
            upgrade.start()
            wait_for(lambda: seconds_of_waiting(other) > 0.5, reason="waits for the writer")
            other.execute("SET lock_timeout = 500")
            submit(other, tenant.pk)
        upgrade.join(30)
        assert not upgrade.is_alive()
        assert valid_indexes() >= INDEXES
        assert "task_finished" not in valid_indexes()


def test_an_upgrade_that_was_interrupted_is_made_by_the_next() -> None:
    make_task(state="success")
    with migrated_to(BEFORE):
        with connection.cursor() as cursor:
            cursor.execute("CREATE INDEX task_dead_at ON taskmill_task (id) WHERE false")
        migrate("tasks_app")
        assert valid_indexes() >= INDEXES
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_get_indexdef('task_dead_at'::regclass)")
            assert "(finished_at)" in cursor.fetchone()[0]


def submit(opened: Any, tenant_id: int) -> None:
    task = transitions.NewTask(
        tenant_id=tenant_id, type="t", queue="q", payload={}, max_retry=0, process_timeout=60
    )
    assert transitions.insert_tasks(opened.cursor(), [task])


def impatient_migration() -> None:
    """Migrate in a session that would not wait for a lock for long."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 200")
        migrate("tasks_app")
    finally:
        connection.close()


def seconds_of_waiting(opened: Any) -> float:
    """How long something waits to make an index."""
    found = opened.execute(
        "SELECT extract(epoch FROM now() - query_start)::float8 FROM pg_stat_activity"
        " WHERE query LIKE 'CREATE INDEX%%' AND wait_event_type = 'Lock'"
        " AND datname = current_database()"
    ).fetchone()
    return 0.0 if found is None else float(found[0])
