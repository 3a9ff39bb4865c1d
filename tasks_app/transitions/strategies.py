"""What a submission wants done where its concurrency key is full, beside waiting.

Called by `deciding` for the tasks that it has just parked, in the same transaction. Rows that
somebody else has locked are skipped: waiting for them could deadlock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks_app.db import Cursor
from tasks_app.limits import Rule
from tasks_app.transitions.operating import cancel_where

ACTOR: Final = "taskmill"

_NEWEST: Final = cancel_where("""id = ANY(%(ids)s::uuid[]) AND state || '' = 'blocked'
    ORDER BY id FOR UPDATE SKIP LOCKED""")

_WAITING: Final = """tenant_id = %(tenant)s AND concurrency_key = %(key)s
    AND finished_at IS NULL AND state = 'blocked'"""
_OLDER: Final = cancel_where(
    f"""{_WAITING} AND id < (
        SELECT w.id FROM taskmill_task w WHERE w.{_WAITING} ORDER BY w.id DESC LIMIT 1)
    ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED"""  # noqa: S608 - built from constants
)

_OF_KEY: Final = """h.tenant_id = %(tenant)s AND h.concurrency_key = %(key)s
    AND h.finished_at IS NULL"""
_HOLDERS: Final = cancel_where(f"""id = ANY(ARRAY(
        SELECT h.id FROM taskmill_task h WHERE {_OF_KEY} AND h.state IN ('dispatched', 'running')
        ORDER BY h.dispatched_at, h.id LIMIT greatest(0, %(wanted)s - (SELECT count(*)
            FROM taskmill_task h WHERE {_OF_KEY} AND h.state = 'cancelling'))))
    AND state IN ('dispatched', 'running') ORDER BY id FOR UPDATE SKIP LOCKED""")  # noqa: S608 - built from constants

Parked = tuple[Mapping[str, Any], str]
"""A task and the rule that refused it."""


def carry_out_strategies(cursor: Cursor, parked: Sequence[Parked]) -> None:
    """Do what the tasks just parked by a full key want done about it.

    `cancel_newest` cancels the task itself, unless it was begun before; `keep_latest` the older
    ones of its key that are parked; `cancel_running` asks one holder for each task, the one handed
    out first, to stop.
    """
    wanting: dict[tuple[str, int, str], list[Mapping[str, Any]]] = defaultdict(list)
    for task, rule in parked:
        found = Rule.read(rule)
        if task["concurrency_strategy"] != "queue" and (found.what, found.of) == ("slots", "key"):
            strategy = task["concurrency_strategy"]
            wanting[strategy, task["tenant_id"], task["concurrency_key"]].append(task)
    for (strategy, tenant_id, key), tasks in wanting.items():
        values: dict[str, Any] = {"tenant": tenant_id, "key": key, "actor": ACTOR, "grace": None}
        values["reason"] = f"concurrency_strategy {strategy}: {key} is full"
        if strategy == "cancel_newest":
            ids = [task["id"] for task in tasks if not task["is_begun"]]
            cursor.execute(_NEWEST, values | {"ids": ids})
        elif strategy == "keep_latest":
            cursor.execute(_OLDER, values)
        else:
            cursor.execute(_HOLDERS, values | {"wanted": len(tasks)})
