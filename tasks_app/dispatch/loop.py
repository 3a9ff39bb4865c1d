"""The dispatch loop: moves ready tasks into the broker's small window, in order, as long as
workers take them.

A round looks at the backlog, marks tasks as dispatched in one transaction that the leadership
fences, commits, and only then publishes. The row is the outbox: whatever is lost after the commit
is found by its state and sent again. Stamps of confirmed hints are written late and together;
most are claimed by then and need none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.conf import settings as django_settings

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.conf import TasksConf, conf
from tasks_app.dispatch.backlog import (
    ReadyQueue,
    find_ready_queues,
)
from tasks_app.dispatch.bundles import (
    MEASURE_SECONDS,
    MEASURE_SOONEST_SECONDS,
    Bundle,
    bundle,
    declared_sizes,
    measure_sizes,
)
from tasks_app.dispatch.declared import store_declared_limits
from tasks_app.dispatch.keeping import KEEP_UP_TO_PER_SLOT, Keeping
from tasks_app.dispatch.pace import Paces
from tasks_app.dispatch.publish import Publisher, make_publisher
from tasks_app.dispatch.sharing import Sharing, Taken
from tasks_app.dispatch.unblocking import Unblocking
from tasks_app.dispatch.window import Window
from tasks_app.loops import Connection, Round, Turn
from tasks_app.registry import all_handlers
from tasks_app.telemetry import logger
from tasks_app.transitions import DispatchedTask

log = logger(__name__)

PACE_SECONDS = 0.005
"""Rounds do not follow faster: what is submitted meanwhile goes together."""

EMPTY_PACE_SECONDS = 0.01
"""Nor faster than this after one that sent nothing: every submission rings, also where no worker
serves it or the window is full."""

STAMP_SECONDS = 1.0
MOST_PER_STATEMENT = 1000
LEAST_TO_BUNDLE = 8


@dataclass(slots=True)
class _Sending:
    """What a transaction took: the hints in order, how many were parked, both by queue."""

    batch: list[DispatchedTask] = field(default_factory=list)
    parked: int = 0
    moved: Counter[str] = field(default_factory=Counter)


class DispatchWork:
    """The `Work` of the dispatch loop.

    Args:
        is_bundling: whether fast tasks may travel several to a message. Celery's events, and so
            Flower, know only the first of a message: off where they are on.
    """

    name = "dispatch"
    channels: tuple[str, ...] = ("taskmill_dispatch",)

    def __init__(
        self, publisher: Publisher, settings: TasksConf, *, is_bundling: bool = True
    ) -> None:
        self._publisher = publisher
        self._is_bundling = is_bundling
        self._settings = settings
        self._windows: dict[str, Window] = {}
        self._confirmed: list[DispatchedTask] = []
        self._paced_until = 0.0
        self._stamp_at = 0.0
        self._unblocking = Unblocking(poll_seconds=settings.dispatch_poll_seconds)
        self._is_declared = False
        self._sizes: dict[str, int] = {}
        self._measure_at = 0.0
        self._measure_rest = MEASURE_SOONEST_SECONDS
        self._paces = Paces()
        self._sharing = Sharing(settings)
        self._keeping = Keeping(is_on=settings.free_slot_of > 0)

    def run_once(self, turn: Turn) -> Round:
        """Send what has room; see `Work.run_once`."""
        if (early := self._paced_until - monotonic()) > 0:
            turn.stop.wait(early)
        self._publisher.open()
        started = monotonic()
        if not self._is_declared:
            store_declared_limits(turn.connection.cursor(), all_handlers())
            self._is_declared = True
        counts = Counter(unblocked=self._unblocking.run(turn))
        ready = self._look(turn, counts)
        rooms = {queue.name: self._room(queue, started) for queue in ready}
        self._keeping.note(turn.connection.cursor(), ready, is_fast=self._is_fast)
        sending = self._dispatch(turn, ready, rooms) if any(rooms.values()) else _Sending()
        if sending.batch:
            self._paced_until = started + PACE_SECONDS
            slots = {queue.name: queue.slots for queue in ready}
            is_worth = len(sending.batch) >= LEAST_TO_BUNDLE
            if is_worth:
                self._measure(turn, sending.batch)
            most = self._settings.bundle_most if is_worth else 1
            bundles = bundle(sending.batch, self._sizes, slots, most=most)
            self._publish(turn.connection, bundles, counts)
            self._measure(turn, sending.batch)
        if sending.parked:
            self._unblocking.soon(started)
        if monotonic() >= self._stamp_at:
            self._stamp(turn.connection)
        self._learn_paces(turn, ready, rooms, sending)
        counts.update(dispatched=len(sending.batch), parked=sending.parked)
        looks = [
            self._windows[queue.name].look_in()
            for queue in ready
            if sending.moved[queue.name] >= rooms[queue.name]
        ]
        seconds = self._wait(looks)
        if turn.is_rung and not sending.batch:
            self._paced_until = started + min(EMPTY_PACE_SECONDS, seconds)
        return Round(counts=counts, wait_seconds=seconds)

    def _learn_paces(
        self, turn: Turn, ready: Sequence[ReadyQueue], rooms: dict[str, int], sending: _Sending
    ) -> None:
        now = monotonic()
        limited = {one.name for one in ready if sending.moved[one.name] >= rooms[one.name]}
        slots = {one.name: one.slots for one in ready}
        sent = (task.queue for task in sending.batch)
        self._paces.learn(sent, slots=slots, limited=limited, now=now)
        self._paces.save(turn.connection.cursor(), now=now)

    def _look(self, turn: Turn, counts: Counter[str]) -> list[ReadyQueue]:
        """Find the queues to serve; see that each has a row, and none that is paused hints out.

        Who pauses a queue takes its hints back; those left over are of a dispatch that committed
        after that, or of rows that were locked then.
        """
        cursor = turn.connection.cursor()
        found = find_ready_queues(
            cursor,
            seen_seconds=self._settings.lease_seconds,
            free_slot_of=self._settings.free_slot_of,
            narrow=self._sharing.narrow_queues(),
        )
        if new := [queue.name for queue in found if not queue.is_known]:
            transitions.know_queues(cursor, new)
        for queue in found:
            if queue.is_paused:
                counts["taken_back"] += transitions.take_back(cursor, queue=queue.name)
        return [queue for queue in found if queue.slots and not queue.is_paused]

    def _room(self, queue: ReadyQueue, now: float) -> int:
        least = queue.window_least or self._settings.window_least
        most = queue.window_most or self._settings.window_most
        window = self._windows.get(queue.name)
        if window is None:
            window = self._windows[queue.name] = Window(least=least, most=most)
        window.bound(least=least, most=most)
        free = None
        if queue.running is not None and queue.window_least is None:
            free = max(0, queue.slots - queue.running)
        return window.room(
            slots=queue.slots, outstanding=queue.outstanding, now=now, free_slots=free
        )

    def _is_fast(self, queue: ReadyQueue) -> bool:
        return self._windows[queue.name].is_faster(KEEP_UP_TO_PER_SLOT, slots=queue.slots)

    def _dispatch(self, turn: Turn, ready: Sequence[ReadyQueue], rooms: dict[str, int]) -> _Sending:
        """Mark tasks as dispatched in one fenced transaction; publishing follows its commit.

        A queue's own limits are checked here, behind the fence, and narrow its room.
        """
        sending = _Sending()
        with turn.connection.transaction():
            cursor = turn.connection.cursor()
            turn.leadership.fence(cursor)
            for queue in ready:
                room, own = rooms[queue.name], None
                if queue.is_limited and room > 0:
                    own = transitions.read_queue_room(cursor, queue=queue.name)
                    room = rooms[queue.name] = own.narrow(room)
                taken = self._sharing.dispatch(cursor, queue, room) if room > 0 else Taken()
                if own is not None:
                    own.spend(cursor, len(taken.hints))
                if taken.is_cut:
                    rooms[queue.name] = taken.moved
                sending.batch.extend(taken.hints)
                sending.moved[queue.name] = taken.moved
                sending.parked += taken.moved - len(taken.hints)
        return sending

    def _measure(self, turn: Turn, batch: Sequence[DispatchedTask]) -> None:
        """Learn now and then how many tasks of each type may go together: before a batch that
        needs to know, after one that would wait for it.
        """
        if self._is_bundling and monotonic() >= self._measure_at:
            cursor = turn.connection.cursor()
            self._sizes = measure_sizes(cursor, self._sizes) | declared_sizes(all_handlers())
            rest = MEASURE_SECONDS
            if all(task.type in self._sizes for task in batch):
                self._measure_rest = MEASURE_SOONEST_SECONDS
            else:
                rest = self._measure_rest
                self._measure_rest = min(1.5 * rest, MEASURE_SECONDS)
            self._measure_at = monotonic() + rest

    def _publish(
        self, connection: Connection, bundles: Sequence[Bundle], counts: Counter[str]
    ) -> None:
        sent = Counter(task.queue for one in bundles for task in one.tasks)
        answer = self._publisher.publish(bundles)
        counts["messages"] += len(bundles)
        refused = Counter(task.queue for task in answer.refused)
        self._confirmed.extend(answer.confirmed)
        for start in range(0, len(answer.refused), MOST_PER_STATEMENT):
            part = answer.refused[start : start + MOST_PER_STATEMENT]
            counts["taken_back"] += transitions.undispatch(connection.cursor(), part)
        now = monotonic()
        for queue, count in sent.items():
            self._windows[queue].sent(count)
            rest = self._windows[queue].answered(refused=refused[queue], now=now)
            if rest:
                log.warning(
                    "the broker refused hints", queue=queue, hints=refused[queue], rest_seconds=rest
                )
        counts["confirmed"] += len(answer.confirmed)

    def _stamp(self, connection: Connection) -> None:
        """Stamp the hints confirmed since the last time; those already claimed are not written."""
        self._stamp_at = monotonic() + STAMP_SECONDS
        confirmed, self._confirmed = self._confirmed, []
        if confirmed:
            transitions.mark_published(connection.cursor(), confirmed)

    def _wait(self, looks: Sequence[float]) -> float:
        """Give the seconds until the next round; `looks` are those of the queues with a backlog."""
        now = monotonic()
        due = [*looks, self._settings.dispatch_poll_seconds, self._unblocking.at - now]
        if self._confirmed and not looks:
            due.append(self._stamp_at - now)
        return max(0.001, min(due))

    def rest(self, connection: Connection | None) -> None:
        """Stamp what is left and disconnect from the broker; see `Work.rest`."""
        if connection is not None:
            self._stamp(connection)
        self._confirmed.clear()
        self._windows.clear()
        self._paces.rest()
        self._sharing.forget()
        self._keeping.forget()
        self._unblocking.forget()
        self._is_declared = False
        self._publisher.close()


def make_work() -> DispatchWork:
    """Build the work of this installation."""
    is_watched = django_settings.CELERY_WORKER_SEND_TASK_EVENTS
    return DispatchWork(make_publisher(), conf(), is_bundling=not is_watched)
