"""Paced retries of dead letters: the newest of a tenant, and one of them."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.db import connection

from tasks_app.db import rows_as_dicts
from tasks_app.errors import PacedRetryNotFound
from tasks_app.selectors.rows import decoded

_SHOWN: Final = """
SELECT id, wanted, per_second, state, total, total_is_capped, retried, skipped, created_at,
    created_by, finished_at, nullif(finished_by, '') AS finished_by
FROM taskmill_paced_retry WHERE tenant_id = %(tenant)s
"""
_ONE: Final = f"{_SHOWN} AND id = %(id)s"
_NEWEST: Final = f"""{_SHOWN} AND (%(after)s::uuid IS NULL OR id < %(after)s::uuid)
ORDER BY id DESC LIMIT %(most)s"""
_BEFORE: Final = f"{_SHOWN} AND id > %(after)s::uuid ORDER BY id LIMIT %(most)s"


def paced_retries_listed(
    *, tenant_id: int, most: int, after: uuid.UUID | None = None, is_backward: bool = False
) -> list[dict[str, Any]]:
    """Give paced retries, the newest first (oldest first where `is_backward`)."""
    values: dict[str, Any] = {"tenant": tenant_id, "most": most, "after": after}
    with connection.cursor() as cursor:
        cursor.execute(_BEFORE if is_backward else _NEWEST, values)
        return [_shown(row) for row in rows_as_dicts(cursor)]


def find_paced_retry(*, tenant_id: int, retry_id: uuid.UUID) -> dict[str, Any]:
    """Give a paced retry.

    Raises:
        PacedRetryNotFound: no such one of this tenant.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ONE, {"tenant": tenant_id, "id": retry_id})
        rows = rows_as_dicts(cursor)
    if not rows:
        raise PacedRetryNotFound
    return _shown(rows[0])


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Give the row as the API shows it: the filter by the API's names, the share done."""
    wanted = decoded(row["wanted"])
    if "state" in wanted:
        wanted["status"] = wanted.pop("state")
    done = row["retried"] + row["skipped"]
    share = 1.0 if row["state"] == "done" or not row["total"] else done / row["total"]
    return row | {"wanted": wanted, "progress": round(100 * min(share, 1.0), 1)}
