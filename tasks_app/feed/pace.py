"""How long the hub lets events gather between two looks at the feed.

An event after silence goes out at once. While there is always more, looks become rarer, so that
what a look and the sends after it cost is shared by more events, and a crowd that watches takes
little from the work that it watches. docs/adr/0018-live-cost.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHORT_REST_SECONDS: Final = 0.01
LONG_REST_SECONDS: Final = 0.05
LONGEST_REST_SECONDS: Final = 0.25
"""As long as between two reports of a task's progress."""

REST_PER_WAKING_SECONDS: Final = 0.0025
"""Waking a subscription and writing to it takes some 50 us: a fiftieth of this."""

FEW_EVENTS: Final = 10
MANY_EVENTS: Final = 1000
"""A look that finds more than a subscription may have buffered comes too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look found.

    Attributes:
        events: by which the feed went on, wanted or not.
        wakings: subscriptions that were given something, once for each page.
    """

    events: int
    wakings: int


def next_rest(rest: float, look: Look, *, waited_seconds: float) -> float:
    """Say for how long to rest after a look.

    Args:
        rest: the one before it, in seconds.
        waited_seconds: for news, after that rest.
    """
    if waited_seconds > LONG_REST_SECONDS:
        return SHORT_REST_SECONDS
    if not FEW_EVENTS <= look.events <= MANY_EVENTS:
        return max(rest / 2, SHORT_REST_SECONDS)
    for_all = min(look.wakings * REST_PER_WAKING_SECONDS, LONGEST_REST_SECONDS)
    return min(rest * 2, max(LONG_REST_SECONDS, for_all))
