"""Use cases of limits: pinned, changed and lifted while the platform runs.

What they write holds from the dispatch loop's next round, for which they ring. What is handed out
already goes on: a lower limit stops only the next ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from django.db import connection, transaction
from pydantic import Field

from tasks_app.db import Cursor
from tasks_app.models import Limit
from tasks_app.registry import MAX_CONCURRENCY, get_handler
from tasks_app.services.caller import Caller
from tasks_app.services.submission import RateText, Strict
from tasks_app.telemetry import logger

log = logger(__name__)


class LimitSettings(Strict):
    """What holds for a concurrency key or a task type; null lifts what was set.

    Attributes:
        concurrency: most tasks handed out or running at a time.
        rate: most tasks handed out in any such time.
    """

    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | None = None
    rate: RateText | None = None

    def columns(self) -> dict[str, Any]:
        """Give the columns of the fields that were given."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def change_key_limit(*, caller: Caller, key: str, columns: Mapping[str, Any]) -> None:
    """Pin or lift the limit and the rate of a concurrency key of the caller's tenant.

    The row of a key of which nothing is pinned any more stays for an hour: the dispatch loop finds
    by it, whoever leads and whenever, that tasks parked by it may go.

    Args:
        columns: as `LimitSettings.columns` gives them; the key need not be in use yet.
    """
    _change(caller, "key", caller.tenant_id, key, columns)


def change_type_limit(*, caller: Caller, task_type: str, columns: Mapping[str, Any]) -> None:
    """Set the limits of a task type, over those that its handler declares, or lift what was set.

    Raises:
        UnknownTaskType: no handler of this type.
    """
    _change(caller, "type", None, get_handler(task_type).type, columns)


_CHANGE: Final = """
INSERT INTO taskmill_limit AS l (of, tenant_id, name, changed_by, changed_at)
VALUES (%(of)s, %(tenant)s, %(name)s, %(by)s, taskmill_now())
ON CONFLICT (of, tenant_id, name) DO UPDATE
SET changed_by = excluded.changed_by, changed_at = excluded.changed_at
RETURNING id
"""


def limits_changed(cursor: Cursor) -> None:
    """Ring for the dispatch loop, at the commit: parked tasks may have room."""
    cursor.execute("SELECT pg_notify('taskmill_dispatch', '')")


def _change(
    caller: Caller, of: str, tenant_id: int | None, name: str, columns: Mapping[str, Any]
) -> None:
    if not columns:
        return
    values = {"of": of, "tenant": tenant_id, "name": name, "by": caller.actor}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_CHANGE, values)
        Limit.objects.filter(id=cursor.fetchone()[0]).update(**columns)
        limits_changed(cursor)
    log.info("limit changed", of=of, name=name, actor=caller.actor, fields=sorted(columns))
