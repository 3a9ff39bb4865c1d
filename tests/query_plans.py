"""Looks at the plan of a statement that is run on tables filled for it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from django.db import connection


def check_plan(
    query: str, values: Any, *, most: int, large: Collection[str], most_removed: int | None = None
) -> None:
    """Run a statement, and find that it reads no large table whole.

    Args:
        most: pages that it may touch.
        large: the tables.
        most_removed: rows that it may read and not want; None for any number. What lies together
            in an index costs few pages, however many they are.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL jit = off")
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", values)
        found = cursor.fetchone()[0]
    (plan,) = json.loads(found) if isinstance(found, str) else found
    text = json.dumps(plan, indent=1)
    scanned = re.findall(r'"Node Type": "Seq Scan"[^}]*?"Relation Name": "(\w+)"', text)
    assert not set(scanned) & set(large), text
    buffers = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    assert buffers <= most, f"{buffers} buffers\n{text}"
    removed = sum(int(rows) for rows in re.findall(r'"Rows Removed by Filter": (\d+)', text))
    assert most_removed is None or removed <= most_removed, f"{removed} rows removed\n{text}"
