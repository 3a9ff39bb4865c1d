"""The database backend: Django's, which asks a pooled connection less often whether it lives and
takes the one that was used last.

Django's pool sends an empty query each time that a thread takes a connection, which is half of
the round trips of a submission. What a server, a proxy or the kernel does to a connection that is
not in use makes its socket readable, which is asked of the kernel alone. And it gives out the
connection that has rested longest, so that a few requests go round all of them: a server process
each, whose plans and pages are then in no cache.
Source: docs/adr/0005-web-threads.md.
"""

from __future__ import annotations

import select
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool
from typing_extensions import override

from tasks_app.clock import monotonic

TRUSTED_SECONDS: Final = 1.0
"""For so long after it answered a connection is taken to live while nothing has come from it."""

_answered_at: WeakKeyDictionary[psycopg.Connection[Any], float] = WeakKeyDictionary()


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's connection; `CONN_HEALTH_CHECKS` is off, or its pool would ask as well."""

    @override
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Give a connection that lives, the one used last; those that do not live are replaced.

        Raises:
            OperationalError: the database does not answer.
        """
        while True:
            if self.pool:
                _put_last_used_first(self.pool)
            connection = super().get_new_connection(conn_params)
            if not self.pool or _lives(connection):
                return connection
            self.pool.putconn(connection)


def _put_last_used_first(pool: ConnectionPool[Any]) -> None:
    """Move the connection that came back last to the end that the pool gives from.

    Private names, pinned by a test: psycopg_pool has no setting for it. Where another thread is
    quicker, the order is another one and nothing else.
    """
    with pool._lock:  # noqa: SLF001
        pool._pool.rotate(1)  # noqa: SLF001


def _lives(connection: psycopg.Connection[Any]) -> bool:
    trusted_until = _answered_at.get(connection, 0.0) + TRUSTED_SECONDS
    if monotonic() < trusted_until and not _has_news(connection):
        return True
    try:
        ConnectionPool.check_connection(connection)
    except psycopg.Error:
        connection.close()
        return False
    _answered_at[connection] = monotonic()
    return True


def _has_news(connection: psycopg.Connection[Any]) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
