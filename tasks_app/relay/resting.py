"""When the relay rests: fifty looks a second for nothing are most of what an idle platform costs.

Nothing new for a while and nothing under way: then what comes first is a submission, which rings.
The bell is listened to only while resting; in a busy hour each submission would wake the relay.
What does not ring (a scheduled task becomes due, a queue is paused) waits for the next look.
"""

from __future__ import annotations

from typing import Final

from tasks_app.clock import monotonic
from tasks_app.loops import Connection
from tasks_app.selectors.parts import IS_UNDER_WAY

AFTER_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.2

_BELL: Final = "taskmill_dispatch"
_ANY_UNDER_WAY: Final = f"SELECT EXISTS (SELECT FROM taskmill_task WHERE {IS_UNDER_WAY})"  # noqa: S608 - built from constants


class Resting:
    """Whether the relay rests.

    Attributes:
        is_on: it does.
    """

    def __init__(self) -> None:
        self.is_on = False
        self._quiet_since = monotonic()

    def seconds(self, connection: Connection, *, is_quiet: bool) -> float | None:
        """Give the time until the next look; None where the relay does not rest.

        Args:
            is_quiet: this look has found nothing, and waits for nothing.
        """
        if not is_quiet:
            self.end(connection)
            return None
        if self.is_on:
            return LOOK_SECONDS
        if monotonic() < self._quiet_since + AFTER_SECONDS:
            return None
        if connection.execute(_ANY_UNDER_WAY).fetchone() != (False,):
            self._quiet_since = monotonic()
            return None
        connection.execute(f"LISTEN {_BELL}")
        self.is_on = True
        return 0.0  # what came before the bell was listened to is looked for

    def end(self, connection: Connection | None) -> None:
        """Rest no more.

        Args:
            connection: None where it is lost, and with it what it listens to.
        """
        self._quiet_since = monotonic()
        if self.is_on and connection is not None:
            connection.execute(f"UNLISTEN {_BELL}")
        self.is_on = False
