"""Pure cron rules: five fields in a time zone, and the instants at which they are due.

cronsim knows the fields (names, ranges, steps, `L`, `LW`, `5L`, `1#2`) on a clock that never jumps;
what happens where clocks do jump is decided here:

* Fixed times (neither minute nor hour begins with `*`) are due once per matching local time: one
  that is skipped at the first valid instant after it, one that is repeated at its first occurrence.
* Rules that follow the clock (minute or hour begins with `*`) are due whenever clocks show a
  matching time: not in a skipped hour, and in both of a repeated one.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from scheduler import zones
from scheduler.errors import InvalidRule

MAX_LENGTH: Final = 400
ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS: Final = ("minute", "hour", "day of month", "month", "day of week")
_WRITE: Final = (
    "0 to 59, such as 5, 0,30, 10-20 or */15",
    "0 to 23, such as 9, 8,20, 9-17 or */2",
    "1 to 31, L (last day) or LW (last working day), such as 1,15",
    "1 to 12 or JAN to DEC, such as 3, JAN-JUN or */3",
    "0 to 7 (0 and 7 are Sunday), SUN to SAT, 5L (last Friday) or 1#2 (second Monday)",
)
_SECOND: Final = timedelta(seconds=1)
_SOME_DAY: Final = datetime(2024, 1, 1)  # noqa: DTZ001 - local time of a clock that never jumps


@dataclass(frozen=True, slots=True, kw_only=True)
class CronRule:
    """A checked cron rule; build it with `read_cron`.

    Attributes:
        expression: five fields.
        timezone: IANA name.
        needs_both_days: whether day of month and day of week must both match even where both are
            restricted (Celery's meaning); cron's is that either suffices.
    """

    expression: str
    timezone: str
    needs_both_days: bool = False

    @property
    def follows_clock(self) -> bool:
        """Whether the minute or the hour begins with `*`."""
        minute, hour = self.expression.split()[:2]
        return minute.startswith("*") or hour.startswith("*")

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield the due instants later than `instant`, in order, without end or for 50 years.

        Args:
            instant: aware.
        """
        zone = zones.find_zone(self.timezone)
        start = instant.astimezone(UTC)
        if self.timezone != "UTC" and self.follows_clock:
            return self._on_the_clock(start, zone)
        return self._at_fixed_times(start, zone)

    def _at_fixed_times(self, instant: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        last = instant
        for local in self._locals(zones.local_at(zone, instant)):
            at = zones.first_valid(zone, local)
            if at > last:
                yield at
                last = at

    def _on_the_clock(self, instant: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Walk from shift to shift; between two, local time is UTC plus a constant."""
        last, offset = instant, zones.offset_at(zone, instant)
        start = instant.replace(tzinfo=None) + offset
        shift: zones.Shift | None
        while True:
            for local in self._locals(start):
                at = (local - offset).replace(tzinfo=UTC)
                shift = zones.first_shift(zone, last, at)
                if shift is not None:
                    break
                last = at
                yield at
            else:
                return
            last, offset = shift.at, shift.after
            start = shift.at.replace(tzinfo=None) + offset - _SECOND

    def _is_due_at(self, local: datetime) -> bool:
        return next(self._locals(local - _SECOND), None) == local

    def _locals(self, local: datetime) -> Iterator[datetime]:
        """Yield the matching local times later than `local` (whole seconds of it count)."""
        simulated = CronSim(self.expression, local)
        if self.needs_both_days:
            simulated.day_and = True
        return simulated

    def note(self, at: datetime) -> str:
        """Say in a sentence what a jump of the clocks does to a due instant; empty for nothing."""
        zone = zones.find_zone(self.timezone)
        local = zones.local_at(zone, at)
        shift = zones.shift_near(zone, local)
        if shift is not None and not shift.is_gap:
            which = "first" if at < shift.at else "second"
            if self.follows_clock:
                return f"clocks show {local:%H:%M} twice on {local:%Y-%m-%d}; this is the {which}"
            return f"clocks show {local:%H:%M} twice on {local:%Y-%m-%d}; due at the first only"
        gap = zones.first_shift(zone, at - _SECOND, at)
        if gap is None or not gap.is_gap or self.follows_clock or self._is_due_at(local):
            return ""
        skipped = next(self._locals(gap.starts - _SECOND), gap.starts)
        return (
            f"clocks skip {skipped:%H:%M} on {skipped:%Y-%m-%d}; "
            f"due at the first valid instant after it, {local:%H:%M}"
        )


@lru_cache(maxsize=8192)
def read_cron(expression: str, timezone: str, *, needs_both_days: bool = False) -> CronRule:
    """Check a cron expression and its zone.

    Args:
        expression: five fields, or one of `ALIASES`; letters of any case.
        timezone: IANA name.
        needs_both_days: see `CronRule`.

    Raises:
        InvalidRule: not understood, or it could never be due; `detail` says what to write.
    """
    zones.find_zone(timezone)
    if len(expression) > MAX_LENGTH:
        raise InvalidRule.of("cron", f"a cron expression has at most {MAX_LENGTH} characters")
    text = ALIASES.get(expression.strip().lower(), expression)
    fields = text.upper().split()
    if len(fields) != len(FIELDS):
        raise InvalidRule.of(
            "cron",
            f"a cron expression has five fields (minute, hour, day of month, month, day of week), "
            f"this one has {len(fields)}",
        )
    _check_fields(fields)
    rule = CronRule(expression=" ".join(fields), timezone=timezone, needs_both_days=needs_both_days)
    _check_possible(rule, fields)
    return rule


def _check_fields(fields: list[str]) -> None:
    for number, field in enumerate(fields):
        alone = ["*"] * len(FIELDS)
        alone[number] = field
        try:
            CronSim(" ".join(alone), _SOME_DAY)
        except CronSimError as error:
            raise InvalidRule.of(
                "cron",
                f"the {FIELDS[number]} {field[:40]!r} is not understood; write {_WRITE[number]}",
            ) from error


def _check_possible(rule: CronRule, fields: list[str]) -> None:
    try:
        simulated = CronSim(rule.expression, _SOME_DAY)
    except CronSimError as error:
        raise _impossible(fields) from error
    if rule.needs_both_days:
        simulated.day_and = True
    if next(simulated, None) is None:
        raise _impossible(fields)


def _impossible(fields: list[str]) -> InvalidRule:
    day, month, weekday = fields[2:]
    months = calendar.month_name[int(month)] if month.isdigit() else f"the months {month}"
    beside = "" if weekday.startswith("*") else f" on a day {weekday}"
    return InvalidRule.of(
        "cron", f"this can never be due: day {day} does not occur in {months}{beside}"
    )
