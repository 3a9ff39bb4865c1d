"""The two parts of the tasks that lists read: those at rest and those under way.

The list indexes hold a task while it waits and when it is finished, not while it is handed out and
runs: each step of a task would else write to all of them. What is under way is little (what the
windows and the slots of workers hold) and in an index of its own, `task_under_way`. So a list is
merged from bounded reads, each of one part: PostgreSQL uses a partial index only where the
statement says that no other rows are wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tasks_app.states import UNDER_WAY, State

_NAMES: Final = ", ".join(f"'{state.value}'" for state in sorted(UNDER_WAY))
AT_REST: Final = f"state NOT IN ({_NAMES})"
"""The condition of the list indexes, as they say it; put the alias of the table before it."""

IS_UNDER_WAY: Final = f"epoch >= 0 AND state IN ({_NAMES})"
"""The condition of `task_under_way`, of a table without an alias. Every epoch fits. Only statements
that say so are planned with that index: it looks empty by statistics of a quiet moment, and what
counts the slots of keys would read all that is handed out for each key.
"""


def parts_of(states: Sequence[str]) -> list[str]:
    """Give conditions over `t` that together take all tasks in some states, or in any where none
    is named, and of which each is served by a list index or by that of what is under way.

    Args:
        states: no task has one that does not exist.
    """
    if not states:
        return [f"t.{AT_REST}", *parts_of(sorted(UNDER_WAY))]
    return [part_with(state) for state in State if state in states] or ["false"]


def part_with(state: str) -> str:
    """Give the condition over `t` of the tasks in a state, so that an index of states serves it."""
    more = "t.epoch >= 0 AND " if state in UNDER_WAY else ""
    return f"{more}t.state = '{State(state).value}'"
