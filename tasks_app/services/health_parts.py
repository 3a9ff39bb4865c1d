"""What a part of the installation says of its health, and the parts that apps add to the report.

    declare_health_part(HealthPart(name="beat", check=check_beat_part, fix="start celery beat"))

Called in an `AppConfig.ready`, so by every process; what looks at the parts is in `health`, with
the client libraries that it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tasks_app.errors import ConfigurationError

OWN_PARTS: Final = frozenset({"database", "broker", "cache", "engine", "workers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part's health.

    Attributes:
        is_ok: whether it does its work.
        detail: one phrase for people.
        facts: numbers beside it.
        milliseconds: how long the check took.
    """

    is_ok: bool
    detail: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPart:
    """A part that an app adds to the report of `/health` and to the doctor's.

    Attributes:
        name: its key in the report.
        check: looks at it; needs the database, and is not asked without it.
        fix: what to do where it is not well.
    """

    name: str
    check: Callable[[], Part]
    fix: str


_declared: dict[str, HealthPart] = {}


def declare_health_part(part: HealthPart) -> None:
    """Have this part reported.

    Raises:
        ConfigurationError: another part has the name.
    """
    if part.name in OWN_PARTS or _declared.setdefault(part.name, part) != part:
        raise ConfigurationError(f"there are two parts named {part.name}; rename one")


def declared_health_parts() -> list[HealthPart]:
    """Give the parts that apps declared."""
    return list(_declared.values())
