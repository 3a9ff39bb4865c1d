"""Python's cyclic garbage collector in processes that serve for long.

By its defaults it looks through all modules, classes and functions again and again while a process
makes many objects at a time, as a bulk submission or a batch of hints does: half of the processor
time of such a request. What a process keeps from its start is taken out of its sight, and it looks
after `OBJECTS` new ones. It looks at all that is left soon after: a live connection that has ended
is a ring of a hundred objects, which no look at the young ones frees.
"""

from __future__ import annotations

import gc
from typing import Final

OBJECTS: Final = 20_000
"""New containers after which the young ones are looked through; Python's own number is 700. As many
may be kept a little longer, some megabytes."""

YOUNG_LOOKS: Final = 3
MIDDLE_LOOKS: Final = 1
"""Looks at the young and at the middle-aged ones between two at all: one for each 160,000 new
containers. What is kept from the start costs none of them anything."""


def spare_what_stays() -> None:
    """Take what is loaded now out of the collector's sight; called once, after the start and before
    children are forked, which then share these pages.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS, YOUNG_LOOKS, MIDDLE_LOOKS)
