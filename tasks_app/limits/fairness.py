"""Fair shares: who of those that wait in a queue is given its room, one grant after the other.

Shares are of slots, not of starts: an account per party grows with what it has out (handed to the
broker or running), so who has long tasks is given fewer of them. A grant goes to the party with the
least, counting what it has out as if each of that went on for `AHEAD_SECONDS`. Accounts are kept by
the leader of the dispatch loop alone; without them shares are those of what is out now.

Tenants share by weight; the fair keys of a tenant share what it is given, evenly. So a tenant gains
nothing by naming more keys. Source: docs/adr/0017-fairness.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heapreplace
from typing import Final, Generic, NamedTuple, TypeVar

AHEAD_SECONDS: Final = 30.0
"""What a task out is expected to take, and so the time in which accounts even out. Shares of tasks
that take much longer swing before they even out."""

LEAST_SECONDS: Final = 0.01
"""What a start costs beside the time that its task is seen out."""

CREDIT: Final = 1.5
"""Most that a party is behind the others, in its fair shares of `AHEAD_SECONDS`. Who used little
lately is preferred until it has made up for it: of two parties it then has up to seven eighths of
the slots. Without a bound, who returns would shut the others out for as long as it was away."""

MOST_REMEMBERED: Final = 1000
"""Tenants whose fair keys have accounts though they want nothing now."""

Name = TypeVar("Name", bound=Hashable)


class Flow(NamedTuple):
    """Tasks that go one after the other: those of a tenant with the same fair key."""

    tenant_id: int
    fair_key: str


@dataclass(frozen=True, slots=True)
class Party:
    """One of those that share.

    Attributes:
        weight: its share beside the others'.
        out: its tasks that are handed out or run.
        is_waiting: whether it has tasks to hand out.
    """

    weight: int = 1
    out: int = 0
    is_waiting: bool = True

    def may(self, most: int | None) -> bool:
        """Say whether it may have one more out."""
        return most is None or self.out < most


class Ledger(Generic[Name]):
    """The accounts of those that share something, in slot-seconds by weight."""

    def __init__(self) -> None:
        self._had: dict[Name, float] = {}
        self._most = 0.0

    def pass_time(self, parties: Mapping[Name, Party], seconds: float) -> None:
        """Charge those that have something out for the time that it has been so."""
        for name, one in parties.items():
            if name in self._had:
                self._had[name] += seconds * one.out / one.weight

    def share(
        self, room: int, parties: Mapping[Name, Party], *, most: int | None = None
    ) -> list[Name]:
        """Give the room to the parties that wait: one name per task, in the order to go.

        Args:
            room: tasks to grant.
            parties: all that wait or have something out.
            most: that each may have out; None for any number.

        Returns:
            `room` names; fewer where nobody waits who may have more. Whoever has fewer tasks than
            it is granted gives the rest back: ask again without it.
        """
        waiting = {name: one for name, one in parties.items() if one.is_waiting and one.may(most)}
        if not waiting or room <= 0:
            return []
        out, weights = (
            sum(one.out for one in parties.values()),
            sum(one.weight for one in waiting.values()),
        )
        self._level(parties, fair=(room + out) / weights)
        heap = [
            (self._had[name] + AHEAD_SECONDS * one.out / one.weight, number, name)
            for number, (name, one) in enumerate(waiting.items())
        ]
        heapify(heap)
        granted: list[Name] = []
        has_out = {name: one.out for name, one in waiting.items()}
        while heap and len(granted) < room:
            score, number, name = heap[0]
            granted.append(name)
            has_out[name] += 1
            if has_out[name] == most:
                heappop(heap)
            else:
                heapreplace(heap, (score + AHEAD_SECONDS / waiting[name].weight, number, name))
        return granted

    def charge(self, starts: Mapping[Name, int], parties: Mapping[Name, Party]) -> None:
        """Note what was handed out of what was granted: so tasks too short to be seen out count."""
        for name, count in starts.items():
            self._had[name] += LEAST_SECONDS * count / parties[name].weight

    def _level(self, parties: Mapping[Name, Party], *, fair: float) -> None:
        """Open accounts for the new, and let nobody be further behind than the credit.

        Args:
            fair: slots by weight that everybody who waits would have.
        """
        credit = CREDIT * AHEAD_SECONDS * fair
        for name, one in parties.items():
            if name not in self._had:  # as if it had long had what it has now
                unused = max(0.0, 1 - one.out / (one.weight * fair))
                self._had[name] = self._most - credit * unused
        most = max(self._had[name] for name, one in parties.items() if one.is_waiting)
        self._most = max(self._most, most)
        least = self._most - credit
        kept = {name: had for name, had in self._had.items() if name in parties or had > least}
        self._had = {name: max(had, least) for name, had in kept.items()}


class FairShares:
    """The accounts of one queue: of its tenants, and of the fair keys of each."""

    def __init__(self) -> None:
        self._tenants: Ledger[int] = Ledger()
        self._keys: defaultdict[int, Ledger[str]] = defaultdict(Ledger)

    def pass_time(self, parties: Mapping[Flow, Party], seconds: float) -> None:
        """Charge flows and their tenants; see `Ledger.pass_time`."""
        self._tenants.pass_time(tenants_of(parties), seconds)
        for tenant_id, mine in _keys_of(parties).items():
            if len(mine) > 1:
                self._keys[tenant_id].pass_time(mine, seconds)

    def share(
        self, room: int, parties: Mapping[Flow, Party], *, most: int | None = None
    ) -> list[Flow]:
        """Give the room to the flows that wait, in the order to go; see `Ledger.share`.

        Args:
            parties: by flow; the weight is its tenant's.
            most: that each tenant may have out.
        """
        keys = _keys_of(parties)
        granted = self._tenants.share(room, tenants_of(parties), most=most)
        places = {
            tenant_id: iter(self._share_keys(tenant_id, count, keys[tenant_id]))
            for tenant_id, count in Counter(granted).items()
        }
        if len(self._keys) > MOST_REMEMBERED:
            for tenant_id in self._keys.keys() - keys.keys():
                del self._keys[tenant_id]
        return [Flow(tenant_id, next(places[tenant_id])) for tenant_id in granted]

    def _share_keys(self, tenant_id: int, room: int, parties: Mapping[str, Party]) -> list[str]:
        if len(parties) == 1:
            return list(parties) * room
        return self._keys[tenant_id].share(room, parties)

    def charge(self, starts: Mapping[Flow, int], parties: Mapping[Flow, Party]) -> None:
        """Note what was handed out of what was granted; see `Ledger.charge`."""
        tenants: Counter[int] = Counter()
        keys: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for flow, count in starts.items():
            tenants[flow.tenant_id] += count
            keys[flow.tenant_id][flow.fair_key] = count
        self._tenants.charge(tenants, tenants_of(parties))
        for tenant_id, mine in _keys_of(parties).items():
            if len(mine) > 1 and tenant_id in keys:
                self._keys[tenant_id].charge(keys[tenant_id], mine)


def _keys_of(parties: Mapping[Flow, Party]) -> dict[int, dict[str, Party]]:
    """Give the fair keys that share what a tenant is given, by tenant."""
    keys: defaultdict[int, dict[str, Party]] = defaultdict(dict)
    for flow, one in parties.items():
        keys[flow.tenant_id][flow.fair_key] = replace(one, weight=1)
    return keys


def tenants_of(parties: Mapping[Flow, Party]) -> dict[int, Party]:
    """Give the tenants as parties: what their flows have out, together."""
    tenants: dict[int, Party] = {}
    for flow, one in parties.items():
        other = tenants.get(flow.tenant_id, Party(is_waiting=False))
        is_waiting = one.is_waiting or other.is_waiting
        tenants[flow.tenant_id] = Party(one.weight, one.out + other.out, is_waiting)
    return tenants
