"""Tasks that submit tasks: how deep, and how many each."""

from __future__ import annotations

from typing import Any, Final

from django.db import connection

from tasks_app.conf import conf
from tasks_app.errors import TaskTooDeep, TooManyChildren
from tasks_app.services.defaults import Origin

CHILDREN: Final = """
SELECT count(*) FROM (
    SELECT 1 FROM taskmill_task WHERE tenant_id = %(tenant)s AND parent = %(parent)s LIMIT %(most)s
) few
"""


def check_lineage(*, tenant_id: int, origin: Origin) -> None:
    """Refuse a submission of a task that is too deep or has submitted enough.

    Raises:
        TaskTooDeep: beyond `max_task_depth`.
        TooManyChildren: the parent has `max_task_children` already.

    Concurrency: threads of one handler that submit at once may each add one beyond the limit.
    """
    deepest, most = conf().max_task_depth, conf().max_task_children
    if origin.depth > deepest:
        raise TaskTooDeep(
            f"the task would be {origin.depth} deep, the limit is {deepest};"
            " does a task submit itself?",
            depth=origin.depth,
            limit=deepest,
        )
    if origin.parent is None:
        return
    values: dict[str, Any] = {"tenant": tenant_id, "parent": origin.parent, "most": most}
    with connection.cursor() as cursor:
        cursor.execute(CHILDREN, values)
        count = int(cursor.fetchone()[0])
    if count >= most:
        raise TooManyChildren(
            f"the task {origin.parent} has submitted {count} tasks, the limit is {most}",
            parent=str(origin.parent),
            limit=most,
        )
