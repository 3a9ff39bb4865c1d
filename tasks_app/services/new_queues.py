"""Queues that a submission names for the first time: made, unless there are too many.

A queue costs every look of the dispatcher, and whoever may submit can name one. Only names that
this process does not know come here; others cost a look into a set.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Final

from django.db import connection, transaction

from tasks_app.conf import conf
from tasks_app.errors import TooManyQueues
from tasks_app.registry import known_queues
from tasks_app.selectors.queues import note_queues, queues_unknown
from tasks_app.transitions import know_queues

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('taskmill new queues', 0))"
_MISSING: Final = """
SELECT n FROM unnest(%(names)s::text[]) AS n
WHERE NOT EXISTS (SELECT 1 FROM taskmill_queue q WHERE q.name = n) ORDER BY n
"""
_COUNT: Final = "SELECT count(*) FROM taskmill_queue"


def make_new_queues(names: Collection[str]) -> dict[str, TooManyQueues]:
    """Make the queues of the names that have none, as far as the limit allows, within the caller's
    transaction.

    Args:
        names: as `queues_unknown` gives them.

    Returns:
        Why not, for each that was refused.

    Concurrency: those that make queues wait for each other's commits, so that none exceeds the
    limit; keep the transaction short.
    """
    missing = _missing(names)
    if missing:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK)
        missing = _missing(missing)
    refused = missing[_room() :] if missing else []
    made = missing[: len(missing) - len(refused)]
    if made:
        with connection.cursor() as cursor:
            know_queues(cursor, made)
    transaction.on_commit(partial(note_queues, set(names).difference(refused)))
    return {name: _refusal(name) for name in refused}


def refused_queues(names: Collection[str]) -> dict[str, TooManyQueues]:
    """Say which of the names no submission could make now, without making any.

    For those who only ask, and for transactions of unknown length: what they submit gets its queue
    from the dispatcher.
    """
    unknown = queues_unknown(names)
    missing = _missing(unknown) if unknown else []
    return {name: _refusal(name) for name in missing[_room() :]} if missing else {}


def _missing(names: Collection[str]) -> list[str]:
    declared = set(known_queues())
    with connection.cursor() as cursor:
        cursor.execute(_MISSING, {"names": [name for name in names if name not in declared]})
        return [row[0] for row in cursor.fetchall()]


def _room() -> int:
    """Give how many queues may still be made."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT)
        return max(0, conf().queues_most - int(cursor.fetchone()[0]))


def _refusal(name: str) -> TooManyQueues:
    most = conf().queues_most
    return TooManyQueues(
        f"there is no queue {name!r}, and with {most} queues (TASKMILL_QUEUES_MOST) a submission"
        " makes no more; name one that is there, or have an operator make it (POST /queues) or"
        " raise the limit",
        queue=name,
        limit=most,
    )
