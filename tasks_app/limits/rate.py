"""A rate: so many tasks per duration, as a bucket whose tokens come back one by one.

The bucket holds as many tokens as the rate allows tasks. A task that is handed out takes one, which
is back one duration later. So no window of the duration, wherever it begins, sees more tasks than
the rate; and after a rest the whole bucket may go at once.

What is out is kept as a short list of `[first, last, count]`, seconds of the database clock. Tokens
taken within a 64th of the duration share an entry and come back together, by the last of them: late
by at most that, never early.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
MAX_RATE_TASKS: Final = 1_000_000
MAX_RATE_SECONDS: Final = 31 * 86_400
SHARES: Final = 64

_SPELLINGS: Final = {
    **dict.fromkeys(("s", "sec", "second"), "s"),
    **dict.fromkeys(("m", "min", "minute"), "min"),
    **dict.fromkeys(("h", "hour"), "h"),
    **dict.fromkeys(("d", "day"), "d"),
}
_PATTERN: Final = re.compile(r"^([0-9]{1,7})/([0-9]{0,7})([a-z]+)$", re.ASCII)
HOW_TO_WRITE: Final = "write tasks per time, such as 10/min, 1000/s or 100/15min (s, min, h, d)"

Spent = Sequence[Sequence[float]]
"""What is out of a bucket, the oldest first: `[first, last, count]` each."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `tasks` in any `seconds`."""

    tasks: int
    seconds: int

    def __str__(self) -> str:
        unit = next(name for name in reversed(UNITS) if self.seconds % UNITS[name] == 0)
        count = self.seconds // UNITS[unit]
        return f"{self.tasks}/{'' if count == 1 else count}{unit}"


def parse_rate(text: str) -> Rate:
    """Read a rate such as `10/min`, `1000/s`, `100/15min`.

    Raises:
        ValueError: the message says how to write one.
    """
    found = _PATTERN.match(text)
    unit = _SPELLINGS.get(found[3]) if found else None
    if found is None or unit is None:
        raise ValueError(f"{text[:40]!r} is no rate; {HOW_TO_WRITE}")
    rate = Rate(tasks=int(found[1]), seconds=int(found[2] or 1) * UNITS[unit])
    if not 1 <= rate.tasks <= MAX_RATE_TASKS or not 1 <= rate.seconds <= MAX_RATE_SECONDS:
        raise ValueError(f"{text[:40]!r}: a rate is 1 to 1000000 tasks per 1 second to 31 days")
    return rate


def is_ahead(spent: Spent, now: float) -> bool:
    """Say whether tokens were taken after `now`: the clock of the database was set back."""
    return any(last > now for _, last, _ in spent)


def _out(spent: Spent, rate: Rate, now: float) -> list[list[float]]:
    """Give what is still out; what was taken after `now` counts as taken now."""
    entries = ([min(first, now), min(last, now), count] for first, last, count in spent)
    return [entry for entry in entries if entry[1] + rate.seconds > now]


def tokens_out(spent: Spent, rate: Rate, now: float) -> int:
    """Give how many tokens are out of the bucket."""
    return int(sum(count for _, _, count in _out(spent, rate, now)))


def spend(spent: Spent, rate: Rate, now: float, count: int) -> list[list[float]]:
    """Give the bucket after `count` more tokens were taken; 0 only tidies it up."""
    out = _out(spent, rate, now)
    if count <= 0:
        return out
    if out and now - out[-1][0] < rate.seconds / SHARES:
        first, _, before = out.pop()
        return [*out, [first, now, before + count]]
    return [*out, [now, now, count]]


def next_token_at(spent: Spent, rate: Rate, now: float) -> float:
    """Give when there will be a token in the bucket: `now` where there is one."""
    out = _out(spent, rate, now)
    missing = sum(count for _, _, count in out) - rate.tasks + 1
    for _, last, count in out:
        if missing <= 0:
            break
        missing -= count
        now = last + rate.seconds
    return now
