"""How many tries each lane may have under way: caps per lane and tenant, and a circuit breaker.

A lane is an endpoint, or the origin of URLs that tasks were submitted with. Kept by the leader of
the sending loop in memory; another leader begins with all lanes closed circuits and learns anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

FAILURES_TO_OPEN: Final = 5
OPEN_SECONDS: Final = 30.0
MOST_OPEN_SECONDS: Final = 600.0
TENANT_SHARE: Final = 4
"""A tenant has at most a quarter of all tries, so that its dead receivers leave room."""


@dataclass(slots=True)
class _Lane:
    in_flight: int = 0
    failures: int = 0
    open_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A due delivery."""

    id: str
    lane: str
    tenant_id: int


@dataclass(slots=True)
class Lanes:
    """The state of all lanes that have tries under way or failures.

    Args:
        most: tries under way in all.
        most_per_lane: in one lane whose circuit is closed.
    """

    most: int
    most_per_lane: int
    _lanes: dict[str, _Lane] = field(default_factory=dict)
    _tenants: Counter[int] = field(default_factory=Counter)

    @property
    def in_flight(self) -> int:
        """Tries under way."""
        return self._tenants.total()

    def full(self, now: float) -> list[str]:
        """Name the lanes that take nothing more for now."""
        return [name for name in self._lanes if self._room_of(name, now) <= 0]

    def choose(self, candidates: Iterable[Candidate], now: float) -> list[Candidate]:
        """Take the candidates that there is room for, in their order, and count them."""
        chosen = []
        for one in candidates:
            if self.in_flight >= self.most:
                break
            of_tenant = self._tenants[one.tenant_id]
            if self._room_of(one.lane, now) > 0 and of_tenant < self._most_of_tenant():
                self._lanes.setdefault(one.lane, _Lane()).in_flight += 1
                self._tenants[one.tenant_id] += 1
                chosen.append(one)
        return chosen

    def ended(self, lane: str, tenant_id: int, now: float, *, is_success: bool | None) -> None:
        """Count a try out; None where it was none."""
        found = self._lanes[lane]
        found.in_flight -= 1
        self._tenants[tenant_id] -= 1
        if is_success:
            found.failures = 0
            found.open_until = 0.0
        elif is_success is False:
            found.failures += 1
            self._open(found, now)
        if not found.in_flight and not found.failures:
            del self._lanes[lane]

    def _open(self, lane: _Lane, now: float) -> None:
        beyond = lane.failures - FAILURES_TO_OPEN
        if beyond >= 0 and now >= lane.open_until:
            lane.open_until = now + min(OPEN_SECONDS * 2 ** min(beyond, 10), MOST_OPEN_SECONDS)

    def _room_of(self, name: str, now: float) -> int:
        """A circuit that was open is tried with one delivery before it is closed."""
        lane = self._lanes.get(name)
        if lane is None:
            return self.most_per_lane
        if now < lane.open_until:
            return 0
        most = 1 if lane.failures >= FAILURES_TO_OPEN else self.most_per_lane
        return most - lane.in_flight

    def _most_of_tenant(self) -> int:
        return max(self.most // TENANT_SHARE, 1)
