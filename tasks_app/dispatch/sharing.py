"""Who is handed out: the order of a queue, in which tenants and fair keys share, and priorities
that have waited long get their turn.

Called by the dispatch loop inside its fenced transaction. A queue whose ready tasks are of one flow
costs one statement, as it would without shares. What is remembered between rounds is the leader's
alone; without it shares begin with what is out at that moment.

Where a tenant may not hold all slots of a queue (its `max_share`, or since tenants shared it
lately), that is decided by what the rows say is out, and nobody's memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.conf import TasksConf
from tasks_app.db import Cursor
from tasks_app.dispatch.backlog import ReadyQueue
from tasks_app.limits import FairShares, Flow, Party, tenants_of
from tasks_app.transitions import DispatchedTask

LOOKS_AT_A_TIME: Final = 8
"""Looks for flows in a round; what room is left then is for the next one."""

PICKS_AT_A_TIME: Final = 4
"""Statements for the flows of a look: what one is granted and has not got goes to the others."""

CHARGED_SECONDS: Final = 5.0
"""Of a longer time between two rounds with shares no more is charged: nobody saw who had what."""

NARROW_SECONDS: Final = 600.0
"""So long after flows shared a queue its window stays narrow."""

LONG_WAIT_LOOK_SECONDS: Final = 1.0
"""Where nothing has waited long, that is looked for again so much later."""


@dataclass(slots=True)
class Taken:
    """What a queue gave: the hints in order, and how many tasks left the ready index.

    Attributes:
        is_cut: whether there may be more for the room, left to the next round.
    """

    hints: list[DispatchedTask] = field(default_factory=list)
    moved: int = 0
    is_cut: bool = False

    def add(self, hints: Sequence[DispatchedTask], moved: int) -> None:
        """Take more in."""
        self.hints.extend(hints)
        self.moved += moved


@dataclass(slots=True)
class _Memory:
    """What is remembered of a queue.

    Attributes:
        owed: tasks that are to be of smaller priorities, by the room that there was.
        turn: the priority that was given the last such turn.
        look_at: monotonic seconds until which nothing has waited long.
        charged_at: monotonic seconds of the last time that was charged for.
        shared_at: monotonic seconds of the last round in which flows shared.
    """

    shares: FairShares = field(default_factory=FairShares)
    tour: transitions.Tour = field(default_factory=transitions.Tour)
    owed: float = 0.0
    turn: int = transitions.ABOVE_ALL
    look_at: float = 0.0
    charged_at: float = -inf
    shared_at: float = -inf


class Sharing:
    """Hands out the tasks of queues, each in its order."""

    def __init__(self, settings: TasksConf) -> None:
        self._settings = settings
        self._queues: dict[str, _Memory] = {}

    def dispatch(self, cursor: Cursor, queue: ReadyQueue, room: int) -> Taken:
        """Hand out at most `room` tasks of a queue."""
        taken = Taken()
        turns, priority = self._turns(cursor, queue, room) if queue.is_layered else (0, None)
        if room > turns:
            self._serve(cursor, queue, room - turns, taken)
        if priority is not None and taken.moved >= room - turns:
            self._serving(cursor, queue).serve_next(turns, priority + 1, taken)
            self._memory(queue.name).turn = priority
            taken.is_cut = taken.moved < room
        return taken

    def _serve(self, cursor: Cursor, queue: ReadyQueue, room: int, taken: Taken) -> None:
        if queue.is_shared:
            self._memory(queue.name).shared_at = monotonic()
        if queue.is_shared or queue.most_of_tenant is not None:
            self._serving(cursor, queue).serve(room, taken)
        else:
            hints, parked = transitions.dispatch(
                cursor, queue=queue.name, room=room, order=queue.order
            )
            taken.add(hints, len(hints) + parked)

    def narrow_queues(self) -> list[str]:
        """Name the queues in which flows shared lately: little of one may be out when another
        comes.
        """
        since = monotonic() - NARROW_SECONDS
        return [name for name, one in self._queues.items() if one.shared_at > since]

    def forget(self) -> None:
        """Begin anew: another process led meanwhile."""
        self._queues.clear()

    def _memory(self, name: str) -> _Memory:
        return self._queues.setdefault(name, _Memory())

    def _serving(self, cursor: Cursor, queue: ReadyQueue) -> _Serving:
        memory, now = self._memory(queue.name), monotonic()
        seconds = min(now - memory.charged_at, CHARGED_SECONDS)
        memory.charged_at = now
        parties = transitions.read_out(cursor, queue=queue.name)
        memory.shares.pass_time(parties, seconds)
        return _Serving(cursor, queue.name, memory, parties, queue.most_of_tenant)

    def _turns(self, cursor: Cursor, queue: ReadyQueue, room: int) -> tuple[int, int | None]:
        """Give how much of the room is a smaller priority's that has waited long, and which one's:
        below the last one that had a turn, else from the top again.
        """
        memory, now = self._memory(queue.name), monotonic()
        if now < memory.look_at:
            return 0, None
        memory.owed = min(memory.owed + room / self._settings.ageing_share, room)
        turns = int(memory.owed)
        if turns < 1:
            return 0, None
        seconds = queue.ageing_seconds or self._settings.ageing_seconds
        for below in dict.fromkeys((memory.turn, transitions.ABOVE_ALL)):
            priority = transitions.find_long_waiting(
                cursor, queue=queue.name, below=below, ageing_seconds=seconds
            )
            if priority is not None:
                memory.owed -= turns
                return turns, priority
        memory.owed, memory.look_at = 0.0, now + LONG_WAIT_LOOK_SECONDS
        return 0, None


@dataclass(slots=True)
class _Serving:
    """One round of a queue in which flows share.

    Attributes:
        most: tasks that a tenant may have out, or None.
    """

    cursor: Cursor
    queue: str
    memory: _Memory
    parties: dict[Flow, Party]
    most: int | None

    def serve(self, room: int, taken: Taken) -> None:
        """Hand out what there is room for, the largest priority first."""
        below: int | None = transitions.ABOVE_ALL
        for _ in range(LOOKS_AT_A_TIME):
            if below is None or taken.moved >= room:
                break
            below = self.serve_next(room - taken.moved, below, taken)
        taken.is_cut = taken.moved < room and (below is not None or bool(self._full()))

    def _full(self) -> set[int]:
        """Name the tenants that have as much out as they may."""
        if self.most is None:
            return set()
        found = tenants_of(self.parties)
        return {tenant_id for tenant_id, one in found.items() if not one.may(self.most)}

    def _is_any_waiting(self, flows: Iterable[Flow]) -> bool:
        full = self._full()
        return any(self.parties[flow].is_waiting and flow.tenant_id not in full for flow in flows)

    def serve_next(self, room: int, below: int, taken: Taken) -> int | None:
        """Share the room among flows with tasks of the next priority; gives where to go on."""
        level = transitions.find_level(
            self.cursor,
            queue=self.queue,
            below=below,
            tour=self.memory.tour,
            passed_over=self._full(),
        )
        if level is None:
            return None
        waiting = {
            flow: Party(weight=weight, out=self.parties[flow].out if flow in self.parties else 0)
            for flow, weight in level.weights.items()
        }
        self.parties = waiting | {
            flow: one for flow, one in self.parties.items() if flow not in waiting
        }
        for _ in range(PICKS_AT_A_TIME):
            room -= self._pick(room, level.priority, taken)
            if room <= 0 or not self._is_any_waiting(level.weights):
                break
        is_done = level.is_whole and not self._is_any_waiting(level.weights)
        for flow in level.weights:
            self.parties[flow] = replace(self.parties[flow], is_waiting=False)
        return level.priority if is_done else level.priority + 1

    def _pick(self, room: int, priority: int, taken: Taken) -> int:
        granted = self.memory.shares.share(room, self.parties, most=self.most)
        takes = Counter(granted)
        found = transitions.dispatch_flows(
            self.cursor, queue=self.queue, priority=priority, takes=takes
        )
        starts = {flow: sum(one is not None for one in tasks) for flow, tasks in found.items()}
        self.memory.shares.charge(starts, self.parties)
        for flow, wanted in takes.items():
            self.parties[flow] = replace(
                self.parties[flow],
                out=self.parties[flow].out + starts.get(flow, 0),
                is_waiting=len(found.get(flow, ())) == wanted,
            )
        moved = sum(len(tasks) for tasks in found.values())
        taken.add(_in_order(granted, found), moved)
        return moved


def _in_order(
    granted: Sequence[Flow], found: Mapping[Flow, Sequence[DispatchedTask | None]]
) -> list[DispatchedTask]:
    """Give the hints in the order of the grants."""
    places = {flow: iter(tasks) for flow, tasks in found.items()}
    hints = (next(places[flow], None) for flow in granted if flow in places)
    return [hint for hint in hints if hint is not None]
