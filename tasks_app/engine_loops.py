"""Which loops the engine runs. Every installed app may declare some in its `AppConfig.ready`.

    declare_loop(EngineLoop(name="mqtt", work="notifications.mqtt.sink.make_work", is_needed=is_on))

A loop is named by its path, so that declaring it imports nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.utils.module_loading import import_string

from tasks_app.errors import ConfigurationError
from tasks_app.loops import Work


def always() -> bool:
    """Say yes."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoop:
    """A loop of the engine.

    Attributes:
        name: for `--only`, the leader's row and the health report.
        work: dotted path of a function without arguments that gives the `Work`.
        is_needed: whether this installation runs it.
    """

    name: str
    work: str
    is_needed: Callable[[], bool] = always

    def make_work(self) -> Work:
        """Build what the loop does."""
        made: Work = import_string(self.work)()
        return made


_declared: dict[str, EngineLoop] = {}


def declare_loop(loop: EngineLoop) -> None:
    """Have the engine run this loop.

    Raises:
        ConfigurationError: another loop has the name.
    """
    if _declared.setdefault(loop.name, loop) != loop:
        raise ConfigurationError(f"there are two engine loops named {loop.name}; rename one")


def engine_loops() -> dict[str, EngineLoop]:
    """Give the loops that this installation needs, by name."""
    return {name: loop for name, loop in _declared.items() if loop.is_needed()}
