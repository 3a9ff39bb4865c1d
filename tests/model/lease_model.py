"""An explicit-state model of claim, lease and rescue: every interleaving of one small world.

One task, two workers, a broker that drops and doubles, leases that may end at any time, workers
that crash or pause anywhere. Each broken `Variant` removes one device of the protocol; the checker
says whether some interleaving then breaks a promise (unsafe) or can never end (stuck).

The world is bounded (dispatches, hints, interrupts, redrives), which keeps it to seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

WORKERS = 2
MAX_ATTEMPTS = 2
MAX_HINTS = 2
MAX_DISPATCHES = 3
MAX_INTERRUPTS = 1
MAX_REDRIVES = 1
FINAL = frozenset({"success", "failed", "error", "cancelled"})
HELD = frozenset({"running", "cancelling"})


class Variant(StrEnum):
    """The protocol as it is, and ways to get it wrong."""

    GOOD = "good"
    NO_SWEEPER = "no_sweeper"
    NO_RESCUE = "no_rescue"
    UNFENCED_STATE_ONLY = "unfenced_state_only"
    UNFENCED_NONE = "unfenced_none"
    RACY_RESCUE = "racy_rescue"
    SLOT_FREED_BY_WORKER_ONLY = "slot_freed_by_worker_only"
    CLAIM_NO_STATE_CHECK = "claim_no_state_check"
    NO_SEQ_CHECK = "no_seq_check"
    GUARD_BY_ATTEMPT = "guard_by_attempt"
    INTERRUPT_REFUNDS_EPOCH = "interrupt_refunds_epoch"
    REDRIVE_RESETS_EPOCH = "redrive_resets_epoch"
    REDRIVE_KEEPS_BASE = "redrive_keeps_base"


class Worker(NamedTuple):
    """`idle`, `hinted` (a message in hand), or `running` with the tokens of its claim.

    `start` counts the claims ever made: the identity of the run, which no variant may touch.
    """

    at: str = "idle"
    seq: int = 0
    epoch: int = 0
    attempt: int = 0
    start: int = 0


class World(NamedTuple):
    """The row, the hints under way, the workers, and what only the checker can see (`start`...)."""

    state: str = "queued"
    seq: int = 0
    is_unpublished: bool = False
    epoch: int = 0
    attempt: int = 0
    base: int = 0
    is_leased: bool = False
    is_cancel_asked: bool = False
    interrupts: int = 0
    redrives: int = 0
    hints: tuple[int, ...] = ()
    workers: tuple[Worker, ...] = (Worker(),) * WORKERS
    start: int = 0
    winner: int = 0
    slots: frozenset[int] = frozenset()
    read_by_rescue: int = 0


class Step(NamedTuple):
    """One move; faults and the wishes of people are no help that liveness may count on."""

    label: str
    world: World
    is_help: bool = True


def steps(world: World, variant: Variant) -> Iterator[Step]:
    """Give every move that is possible in a world."""
    yield from _dispatching(world, variant)
    yield from _broker(world)
    for number, worker in enumerate(world.workers):
        if worker.at != "idle":
            yield Step(f"crash {number}", _at(world, number, Worker()), is_help=False)
        if worker.at == "hinted":
            yield _claim(world, variant, number)
        if worker.at == "running":
            yield from _running(world, variant, number)
    yield from _rescuing(world, variant)
    yield from _people(world, variant)


def _at(world: World, number: int, worker: Worker) -> World:
    """Put a worker in a place; workers are alike, so their order is kept normal."""
    others = world.workers[:number] + world.workers[number + 1 :]
    return world._replace(workers=tuple(sorted((*others, worker))))


def _dispatching(world: World, variant: Variant) -> Iterator[Step]:
    if world.state == "queued" and world.seq < MAX_DISPATCHES:
        moved = world._replace(state="dispatched", seq=world.seq + 1, is_unpublished=True)
        yield Step("dispatch", moved)
    if world.is_unpublished and len(world.hints) < MAX_HINTS:
        hints = tuple(sorted((*world.hints, world.seq)))
        yield Step("publish", world._replace(hints=hints, is_unpublished=False))
    if world.is_unpublished:
        died = world._replace(is_unpublished=False)
        yield Step("dispatcher dies before publishing", died, is_help=False)
    is_swept = variant is not Variant.NO_SWEEPER and world.seq < MAX_DISPATCHES
    if world.state == "dispatched" and is_swept:
        yield Step("sweep", world._replace(state="queued", is_unpublished=False))


def _broker(world: World) -> Iterator[Step]:
    for place, hint in enumerate(world.hints):
        rest = world.hints[:place] + world.hints[place + 1 :]
        yield Step("drop", world._replace(hints=rest), is_help=False)
        if len(world.hints) < MAX_HINTS:
            doubled = tuple(sorted((*world.hints, hint)))
            yield Step("double", world._replace(hints=doubled), is_help=False)
        for number, worker in enumerate(world.workers):
            if worker.at == "idle":
                taken = world._replace(hints=rest)
                yield Step(f"deliver to {number}", _at(taken, number, Worker("hinted", seq=hint)))


def _claim(world: World, variant: Variant, number: int) -> Step:
    seq = world.workers[number].seq
    is_mine = world.state == "dispatched" and seq == world.seq
    if variant is Variant.NO_SEQ_CHECK:
        is_mine = world.state == "dispatched"
    elif variant is Variant.CLAIM_NO_STATE_CHECK:
        is_mine = world.state not in FINAL and seq == world.seq
    if not is_mine or world.attempt - world.base >= MAX_ATTEMPTS:
        return Step(f"{number} drops a stale hint", _at(world, number, Worker()))
    start, epoch, attempt = world.start + 1, world.epoch + 1, world.attempt + 1
    claimed = world._replace(
        state="running",
        is_unpublished=False,
        epoch=epoch,
        attempt=attempt,
        is_leased=True,
        start=start,
        slots=world.slots | {start},
    )
    worker = Worker("running", epoch=epoch, attempt=attempt, start=start)
    return Step(f"{number} claims", _at(claimed, number, worker))


def _is_current(world: World, worker: Worker, variant: Variant) -> bool:
    """The guard of every write of a worker."""
    if variant is Variant.UNFENCED_NONE:
        return True
    if world.state not in HELD:
        return False
    if variant is Variant.UNFENCED_STATE_ONLY:
        return True
    if variant is Variant.GUARD_BY_ATTEMPT:
        return worker.attempt == world.attempt
    return worker.epoch == world.epoch


def _ended(world: World, state: str, *, slot: int | None = None) -> World:
    freed = world.start if slot is None else slot
    return world._replace(state=state, is_leased=False, slots=world.slots - {freed})


def _running(world: World, variant: Variant, number: int) -> Iterator[Step]:
    worker = world.workers[number]
    freed = _at(world, number, Worker())
    if not _is_current(world, worker, variant):
        yield Step(f"{number} is refused and stops", freed)
        return
    if world.state in HELD and not world.is_leased:
        yield Step(f"{number} renews", world._replace(is_leased=True))
    won = _ended(freed._replace(winner=worker.start), "success", slot=worker.start)
    yield Step(f"{number} succeeds", won)
    is_last = world.attempt - world.base >= MAX_ATTEMPTS
    if world.state == "cancelling":
        yield Step(f"{number} stops as asked", _ended(freed, "cancelled", slot=worker.start))
    elif not is_last:
        yield Step(f"{number} fails, retry", _ended(freed, "queued", slot=worker.start))
    else:
        yield Step(f"{number} fails", _ended(freed, "failed", slot=worker.start))
    if world.state == "running" and world.interrupts < MAX_INTERRUPTS:
        yield Step(f"{number} hands back", _interrupted(world, worker, variant))


def _interrupted(world: World, worker: Worker, variant: Variant) -> World:
    """The stopping worker's main process hands back; the child may live on until it is killed."""
    is_refunded = variant is Variant.INTERRUPT_REFUNDS_EPOCH
    back = _ended(world, "queued", slot=worker.start)
    return back._replace(
        attempt=world.attempt - 1,
        epoch=world.epoch - is_refunded,
        interrupts=world.interrupts + 1,
    )


def _rescuing(world: World, variant: Variant) -> Iterator[Step]:
    if world.state in HELD and world.is_leased:
        yield Step("lease ends", world._replace(is_leased=False))
    if variant is Variant.NO_RESCUE:
        return
    is_dead = world.state in HELD and not world.is_leased
    if variant is not Variant.RACY_RESCUE:
        if is_dead:
            yield Step("rescue", _rescued(world, world.start, variant))
        return
    if is_dead and not world.read_by_rescue:
        yield Step("rescue reads", world._replace(read_by_rescue=world.start))
    if world.read_by_rescue:
        written = world._replace(read_by_rescue=0)
        yield Step("rescue writes", _rescued(written, world.read_by_rescue, variant))


def _rescued(world: World, slot: int, variant: Variant) -> World:
    is_last = world.attempt - world.base >= MAX_ATTEMPTS
    state = "cancelled" if world.is_cancel_asked else "error" if is_last else "queued"
    kept = -1 if variant is Variant.SLOT_FREED_BY_WORKER_ONLY else slot
    return _ended(world, state, slot=kept)


def _people(world: World, variant: Variant) -> Iterator[Step]:
    if world.state not in FINAL and not world.is_cancel_asked:
        state = "cancelling" if world.state == "running" else "cancelled"
        asked = world._replace(state=state, is_cancel_asked=True, is_unpublished=False)
        yield Step("cancel", asked, is_help=False)
    if world.state in FINAL - {"success"} and world.redrives < MAX_REDRIVES:
        is_reset = variant is Variant.REDRIVE_RESETS_EPOCH
        again = world._replace(
            state="queued",
            base=world.base if variant is Variant.REDRIVE_KEEPS_BASE else world.attempt,
            epoch=0 if is_reset else world.epoch,
            attempt=0 if is_reset else world.attempt,
            is_cancel_asked=False,
            redrives=world.redrives + 1,
        )
        if is_reset:
            again = again._replace(base=0)
        yield Step("redrive", again, is_help=False)


def broken_promise(before: World, step: Step) -> str | None:
    """Say what a move breaks, or None."""
    after = step.world
    if before.state in FINAL and after.state != before.state and step.label != "redrive":
        return "a final state was overwritten"
    if before.state in FINAL and after.winner != before.winner:
        return "a final result was overwritten"
    if after.winner not in {before.winner, before.start}:
        return "the result of a zombie was accepted"
    if before.state in HELD and after.start == before.start and _zombie_moved(before, step):
        return "a zombie moved the task"
    wanted = frozenset({after.start}) if after.state in HELD else frozenset()
    if after.slots != wanted:
        return f"slots {sorted(after.slots)} are taken, {sorted(wanted)} should be"
    return None


def _zombie_moved(before: World, step: Step) -> bool:
    """Whether a worker whose run is not the current one changed the row."""
    number = step.label.split(" ")[0]
    if not number.isdigit():
        return False
    worker, after = before.workers[int(number)], step.world
    is_zombie = worker.at == "running" and worker.start != before.start
    return is_zombie and (after.state, after.is_leased) != (before.state, before.is_leased)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a search found: `trace` leads to the fault and is empty where there is none."""

    states: int
    fault: str = ""
    trace: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        return not self.fault


def check(variant: Variant) -> Verdict:
    """Visit every reachable world; then ask of each whether help alone can still end it."""
    start = World()
    came_from: dict[World, tuple[World, str] | None] = {start: None}
    helped_by: dict[World, list[World]] = {}
    todo = deque([start])
    while todo:
        world = todo.popleft()
        for step in steps(world, variant):
            fault = broken_promise(world, step)
            if fault is not None:
                trace = (*_trace(came_from, world), step.label)
                return Verdict(len(came_from), f"unsafe: {fault}", trace)
            if step.world not in came_from:
                came_from[step.world] = (world, step.label)
                todo.append(step.world)
            if step.is_help:
                helped_by.setdefault(step.world, []).append(world)
    return _stuck(came_from, helped_by)


def _stuck(
    came_from: dict[World, tuple[World, str] | None], helped_by: dict[World, list[World]]
) -> Verdict:
    can_end = {world for world in came_from if world.state in FINAL}
    todo = deque(can_end)
    while todo:
        for world in helped_by.get(todo.popleft(), ()):
            if world not in can_end:
                can_end.add(world)
                todo.append(world)
    for world in came_from:
        if world not in can_end and world.seq < MAX_DISPATCHES:
            return Verdict(
                len(came_from), f"stuck: {world.state} for ever", _trace(came_from, world)
            )
    return Verdict(len(came_from))


def _trace(came_from: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    labels = []
    while (origin := came_from[world]) is not None:
        world, label = origin
        labels.append(label)
    return tuple(reversed(labels))
