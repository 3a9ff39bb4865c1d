"""Who runs a loop: a lease per loop in `taskmill_leader`, whose token fences the statements of a
former leader.

Used by `tasks_app.loops`, and by the dispatch loop inside its own transactions. One leader holds
a loop, any number of standbys wait. A leader that was frozen and thaws finds its token gone and
can change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks_app.db import Cursor
from tasks_app.errors import TaskmillError

RELEASED_CHANNEL = "taskmill_leader"
"""Rung when a leader steps down in order, so that a standby takes over at once."""


class LeadershipLost(TaskmillError):
    """Another process leads this loop now; stop and wait as a standby."""

    code = "leadership_lost"


_HOLD = """
INSERT INTO taskmill_leader AS l (loop, holder, token, expires_at)
VALUES (%(loop)s, %(holder)s, 1, taskmill_now() + make_interval(secs => %(lease)s::float8))
ON CONFLICT (loop) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at,
    token = l.token + (l.holder <> excluded.holder)::int
WHERE l.holder = excluded.holder OR l.expires_at <= taskmill_now()
RETURNING token
"""

_FENCE = """
SELECT 1 FROM taskmill_leader
WHERE loop = %(loop)s AND token = %(token)s AND expires_at > taskmill_now() FOR UPDATE
"""

_RELEASE = """
WITH freed AS (
    UPDATE taskmill_leader SET expires_at = taskmill_now(), holder = ''
    WHERE loop = %(loop)s AND token = %(token)s RETURNING loop
)
SELECT pg_notify('taskmill_leader', loop) FROM freed
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leadership:
    """A held lease on a loop; `token` grows with every takeover."""

    loop: str
    token: int

    def fence(self, cursor: Cursor) -> None:
        """Lock the leader row for the current transaction, as its first statement.

        Concurrency: until the transaction ends nobody else can take the loop over.

        Raises:
            LeadershipLost: the lease is over or somebody else's; roll back and change nothing.
        """
        cursor.execute(_FENCE, {"loop": self.loop, "token": self.token})
        if cursor.fetchone() is None:
            raise LeadershipLost(loop=self.loop, token=self.token)

    def release(self, cursor: Cursor) -> None:
        """Step down and ring for the standbys; nothing where the lease is not ours any more."""
        cursor.execute(_RELEASE, {"loop": self.loop, "token": self.token})


def hold(cursor: Cursor, *, loop: str, holder: str, lease_seconds: float) -> Leadership | None:
    """Take a loop's lease if it is free, over, or ours (then it is renewed); one guarded statement.

    Args:
        holder: unique per start of a process.
        lease_seconds: until the lease is over unless it is held again.

    Returns:
        The lease, or None while somebody else leads.
    """
    cursor.execute(_HOLD, {"loop": loop, "holder": holder, "lease": lease_seconds})
    row = cursor.fetchone()
    return None if row is None else Leadership(loop=loop, token=int(row[0]))
