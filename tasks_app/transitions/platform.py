"""The part of a statement that writes an event of no task, beside the change that it tells of.

A statement names its changed rows in a data-modifying CTE, and the events come from those rows
alone. So the change and its event are committed together, and the transaction has an id before it
draws that of an event, which the relay relies on (docs/adr/0006-feed.md). The rows are locked by
the change: two events of one subject have ids in the order of their commits.
"""

from __future__ import annotations

from tasks_app.events import PlatformEventType


def platform_event(
    kind: PlatformEventType,
    *,
    subject: str,
    data: str,
    rows: str = "changed m",
    tenant: str = "NULL::bigint",
    actor: str = "''",
) -> str:
    """Give the CTE that writes one event per row, named after the kind, such as `queue_paused`.

    Every argument but the kind is an SQL expression, a constant of the caller's.

    Args:
        subject: what it is about: the name of a queue, the id of a worker or a schedule.
        data: jsonb.
        rows: what follows FROM: the changed rows, perhaps joined and filtered.
        tenant: whose it is; NULL for the installation's.
    """
    return f"""{kind.replace(".", "_")} AS (
        INSERT INTO taskmill_event
            (tenant_id, subject, seq, type, state, epoch, attempt, at, actor, data)
        SELECT {tenant}, {subject}, 1, '{kind}', '', 0, 0, taskmill_now(), {actor}, {data}
        FROM {rows}
    )"""  # noqa: S608 - arguments are constants of the callers
