"""The limits that handlers declare, stored for the dispatcher, which decides from rows alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tasks_app.db import Cursor
from tasks_app.registry import Handler

_STORE: Final = """
WITH declared AS (
    SELECT * FROM unnest(%(types)s::text[], %(concurrency)s::int[], %(rates)s::text[])
        AS d(name, concurrency, rate)
), gone AS (
    UPDATE taskmill_limit l SET declared_concurrency = NULL, declared_rate = NULL
    WHERE l.of = 'type' AND l.name <> ALL(%(types)s::text[])
      AND (l.declared_concurrency IS NOT NULL OR l.declared_rate IS NOT NULL)
)
INSERT INTO taskmill_limit AS l (of, name, declared_concurrency, declared_rate)
SELECT 'type', d.name, d.concurrency, d.rate FROM declared d ORDER BY d.name
ON CONFLICT (of, tenant_id, name) DO UPDATE
SET declared_concurrency = excluded.declared_concurrency, declared_rate = excluded.declared_rate
WHERE (l.declared_concurrency, l.declared_rate)
    IS DISTINCT FROM (excluded.declared_concurrency, excluded.declared_rate)
"""


def store_declared_limits(cursor: Cursor, handlers: Iterable[Handler]) -> None:
    """Store what the handlers of this process declare; what none declares any more is forgotten.

    Called once each time that a process begins to lead: a new version of the handlers comes with a
    restart of the engines.
    """
    found = [one for one in handlers if one.options.concurrency or one.options.rate]
    values = {
        "types": [one.type for one in found],
        "concurrency": [one.options.concurrency for one in found],
        "rates": [str(one.options.rate) if one.options.rate else None for one in found],
    }
    cursor.execute(_STORE, values)
