"""How often a client may send."""

from __future__ import annotations

from tasks_app.clock import monotonic


class MessageRate:
    """A bucket of messages that fills evenly over a minute.

    Args:
        per_minute: its size, and how many messages flow in within a minute.
    """

    def __init__(self, per_minute: int) -> None:
        self._most = self._left = float(per_minute)
        self._at = monotonic()

    def take(self) -> bool:
        """Count one message; False where it is one too many."""
        now = monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._most / 60)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
