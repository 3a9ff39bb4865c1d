"""Checks of PostgreSQL: does it answer, and does it keep what the guarantees assume?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from django.db import connection as django_connection
from django.db.migrations.executor import MigrationExecutor

from tasks_app import db
from tasks_app.management.diagnosis.finding import Finding

LEAST_VERSION: Final = 15
MOST_SKEW_SECONDS: Final = 1.0
_DURABLE: Final = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_WEAKER: Final = frozenset({"off"})


def findings() -> list[Finding]:
    """Check the database of the settings."""
    try:
        connection = db.connect("doctor")
    except psycopg.OperationalError as error:
        return [
            Finding(
                check="database.reachable",
                detail=str(error).strip().replace("\n", " "),
                fix="start PostgreSQL (`make run` starts the embedded one), or mend DATABASE_URL",
            )
        ]
    with connection:
        return [
            Finding(check="database.reachable", detail="answers"),
            version(connection.info.server_version),
            *[durability(name, _setting(connection, name)) for name in _DURABLE],
            writable(connection),
            clock(connection),
            migrations(),
        ]


def version(number: int) -> Finding:
    """Check the version, as libpq gives it (150004 for 15.4)."""
    major = number // 10_000
    fix = "" if major >= LEAST_VERSION else f"upgrade to PostgreSQL {LEAST_VERSION} or newer"
    return Finding(check="database.version", detail=f"PostgreSQL {major}", fix=fix)


def durability(name: str, value: str) -> Finding:
    """Check that a commit survives a crash."""
    fix = (
        f"set {name} = {_DURABLE[name]} (ALTER SYSTEM, then reload): with it off, an accepted task"
        " can be lost by a crash"
        if value in _WEAKER
        else ""
    )
    return Finding(check=f"database.{name}", detail=value, fix=fix)


def writable(connection: psycopg.Connection[Any]) -> Finding:
    """Check that this is a primary that takes writes."""
    value = _setting(connection, "transaction_read_only")
    fix = "" if value == "off" else "point DATABASE_URL at the primary: this server is read-only"
    detail = "takes writes" if value == "off" else "read-only"
    return Finding(check="database.writable", detail=detail, fix=fix)


def clock(connection: psycopg.Connection[Any]) -> Finding:
    """Compare the database's clock with this machine's."""
    before = _wall_clock()
    answer = connection.execute("SELECT clock_timestamp()").fetchone()
    after = _wall_clock()
    found: datetime = answer[0] if answer else before
    return skew(found - (before + (after - before) / 2))


def skew(difference: timedelta) -> Finding:
    """Judge the difference of the clocks: log lines and times of tasks would not agree."""
    seconds = difference.total_seconds()
    is_small = abs(seconds) <= MOST_SKEW_SECONDS
    fix = "" if is_small else "run a time service (chrony, systemd-timesyncd) on both machines"
    return Finding(check="database.clock", detail=f"differs by {seconds:+.3f} s", fix=fix)


def migrations() -> Finding:
    """Check that the schema is that of this code."""
    executor = MigrationExecutor(django_connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    fix = "run `python manage.py migrate`" if missing else ""
    detail = f"{len(missing)} not applied" if missing else "all applied"
    return Finding(check="database.migrations", detail=detail, fix=fix)


def _setting(connection: psycopg.Connection[Any], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    return str(row[0]) if row else ""


def _wall_clock() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - compared with the database clock, decides nothing
