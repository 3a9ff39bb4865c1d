"""What a check answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: stable name, `part.what`.
        detail: what was found, one line.
        fix: what to do about it; empty where all is well.
    """

    check: str
    detail: str
    fix: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether there is nothing to do."""
        return not self.fix
