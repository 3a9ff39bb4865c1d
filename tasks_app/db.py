"""Raw PostgreSQL connections for the engine and the workers, and the cursor port that the SQL
layers write to.

The web side hands in Django's cursors, workers and engine hand in psycopg's own (autocommit,
prepared statements, one per process or loop, never one per task). Both take `%(name)s` parameters.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import orjson
import psycopg
from django.db import connections
from psycopg.types.json import set_json_dumps, set_json_loads

set_json_dumps(orjson.dumps)
set_json_loads(orjson.loads)


class Cursor(Protocol):
    """What the SQL layers need of a cursor: Django's and psycopg's both have it."""

    @property
    def rowcount(self) -> int:
        """Rows touched by the last statement."""

    @property
    def description(self) -> Any:
        """The columns of the last result; each has a `name`."""

    def execute(self, query: Any, params: Any = None, /) -> Any:
        """Run one statement."""

    def fetchone(self) -> Any:
        """Give the next row or None."""

    def fetchall(self) -> Any:
        """Give the remaining rows."""


def connection_parameters() -> dict[str, Any]:
    """Give libpq's parameters of the default database; a dead server is noticed in seconds."""
    configured: Mapping[str, Any] = connections["default"].settings_dict
    names = {
        "NAME": "dbname",
        "USER": "user",
        "PASSWORD": "password",
        "HOST": "host",
        "PORT": "port",
    }
    parameters: dict[str, Any] = {
        new: configured[old] for old, new in names.items() if configured.get(old)
    }
    options: Mapping[str, Any] = configured.get("OPTIONS", {})
    ssl = {key: value for key, value in options.items() if key.startswith("ssl")}
    return parameters | ssl | {"connect_timeout": 5, "tcp_user_timeout": 10_000}


KEYED: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""Settings of connections whose statements find their rows by key. They are planned once: the
planner would rather plan a statement that takes arrays for each call, which costs more than the
statement. And they are planned for a large table, whatever the statistics say: a plan is kept, and
a new installation's table grows a thousandfold before anybody looks at it again.
"""


def connect(
    role: str, *, statement_timeout_seconds: float = 30.0, is_keyed: bool = False
) -> psycopg.Connection[Any]:
    """Open an autocommit connection of its own.

    Args:
        role: what it is for, shown as the application name (`worker`, `lease`, `dispatch`, ...).
        statement_timeout_seconds: after which a statement is given up, so that a stuck database
            cannot hold a loop.
        is_keyed: whether every statement finds its rows by key; see `KEYED`.

    Raises:
        psycopg.OperationalError: the database does not answer; the caller retries with backoff.
    """
    plans = "".join(f" -c {name}={value}" for name, value in KEYED.items()) if is_keyed else ""
    milliseconds = int(statement_timeout_seconds * 1000)
    return psycopg.connect(
        **connection_parameters(),
        autocommit=True,
        prepare_threshold=1,
        application_name=f"taskmill-{role}",
        options=f"-c statement_timeout={milliseconds} -c lock_timeout=5000 "
        f"-c idle_in_transaction_session_timeout=30000{plans}",
    )


class _Prepared(psycopg.Cursor[Any]):
    """Has the server keep every statement that it runs."""

    def execute(self, query: Any, params: Any = None, /, **_: Any) -> _Prepared:  # type: ignore[override]  # the port's form
        super().execute(query, params, prepare=True)
        return self


@contextmanager
def prepared_cursor() -> Iterator[Cursor]:
    """Give a cursor of Django's connection for a statement of a hot path that finds rows by key.

    Django's own cursors send each statement as text, which the server parses and plans anew: for
    the statements of a submission that is most of their cost. Not for lists: a plan that is kept
    must be right for all parameters.
    """
    django = connections["default"]
    if django.queries_logged:  # the log takes a statement's text from Django's cursors alone
        with django.cursor() as cursor:
            yield cursor
        return
    django.close_if_health_check_failed()
    django.ensure_connection()
    with django.make_cursor(_Prepared(django.connection)) as cursor:  # type: ignore[arg-type]  # any DB-API cursor
        yield cursor


def array_of(values: Iterable[Any]) -> str:
    """Give the text of a PostgreSQL array of UUIDs or numbers, to be cast; None is NULL.

    psycopg looks at each element of a list anew, which costs more than the statement gains by it.
    """
    return f"{{{','.join('NULL' if one is None else str(one) for one in values)}}}"


def process_name() -> str:
    """Name this process for owners and operators: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def rows_as_dicts(cursor: Any) -> list[dict[str, Any]]:
    """Give the remaining rows as dictionaries by column name."""
    names = [column[0] for column in cursor.description]
    rows: Sequence[Sequence[Any]] = cursor.fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]
