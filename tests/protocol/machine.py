"""Operations on the protocol in any order, each carried out on the store and on the reference.

`Protocol` is Hypothesis' state machine; `tests.protocol.walk` drives the same operations deeper.
"""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta
from typing import Any, ClassVar

import hypothesis.strategies as st
import psycopg
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from tasks_app import progress, transitions
from tests.attempts import claim_all, interrupt_one, succeed_one
from tests.protocol.checkers import read_history, violations
from tests.protocol.choices import ANSWERS, MAINTAIN, QUEUES, SECONDS, WORK, WORKERS
from tests.protocol.world import World

LEASE = 15.0
GRACE = 5.0
MAX_RESCUES = 1
HAND_BACKS = 2
PUBLISH_GRACE = 15.0
REDISPATCH = 30.0

Hint = tuple[uuid.UUID, int]
Held = tuple[uuid.UUID, int, str]


MOST_TURNS = 200
"""Rounds of 61 s to heal in: a hint lost five times holds its key for 16 of them, and the tasks of
a key with one slot follow one by one."""


class Protocol(RuleBasedStateMachine):
    """Operations in any order; the store must always do what the reference does."""

    connection: ClassVar[psycopg.Connection[Any]]
    seen: ClassVar[Counter[str]] = Counter()
    """What happened over all examples: a run without a rescue proves nothing about rescues."""

    tasks: Bundle[uuid.UUID] = Bundle("tasks")
    hints: Bundle[Hint] = Bundle("hints")
    claims: Bundle[Held] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.connection)
        self.reference = self.world.reference
        self.cursor = self.world.cursor
        self.submitted = 0
        self.accepted: list[uuid.UUID] = []
        self.crashed: set[str] = set()
        self.held: list[Held] = []

    @initialize(
        target=tasks, queue=st.sampled_from(QUEUES), key=st.sampled_from([None, ("one", 1)])
    )
    def some_tasks(self, queue: str, key: tuple[str, int] | None) -> MultipleResults[uuid.UUID]:
        """Begin with three tasks, so that short examples reach the workers."""
        plain = {"delay": 0, "priority": 0, "max_retry": 1, "process_timeout": 20}
        rest = {"queue": queue, "key": key, "unique": None, "queue_timeout": None}
        made = [self._submit(**plain, **rest) for _ in range(3)]
        return multiple(*(one for one in made if one is not None))

    # --- submission and dispatch ---------------------------------------------------------

    @rule(
        target=tasks,
        queue=st.sampled_from(QUEUES),
        delay=st.sampled_from([0, 0, 0, 5, 40]),
        priority=st.integers(-1, 1),
        max_retry=st.integers(0, 2),
        key=st.sampled_from(
            [None, None, ("one", 1), ("one", 1), ("two", 2), ("mixed", 1), ("mixed", 2)]
        ),
        unique=st.sampled_from([None, None, "u", "v"]),
        queue_timeout=st.sampled_from([None, None, 10, 60]),
        process_timeout=st.sampled_from([20, 100]),
    )
    def submit(self, **task: Any) -> MultipleResults[uuid.UUID]:
        task_id = self._submit(**task)
        return multiple() if task_id is None else multiple(task_id)

    def _submit(self, **task: Any) -> uuid.UUID | None:
        self.submitted += 1
        task_id = uuid.UUID(int=self.submitted)
        new = transitions.NewTask(
            id=task_id,
            tenant_id=self.world.tenant,
            type="demo.echo",
            queue=task["queue"],
            payload={"n": self.submitted},
            max_retry=task["max_retry"],
            process_timeout=task["process_timeout"],
            priority=task["priority"],
            delay_seconds=task["delay"] or None,
            concurrency_key=task["key"][0] if task["key"] else None,
            max_concurrency=task["key"][1] if task["key"] else None,
            unique_key=task["unique"],
            queue_timeout=task["queue_timeout"],
        )
        inserted = transitions.insert_tasks(self.cursor, [new])
        is_new = self.reference.submit(task_id, **task)
        assert list(inserted) == ([task_id] if is_new else [])
        if not is_new:
            self.seen["unique submit refused"] += 1
            return None
        self.accepted.append(task_id)
        return task_id

    @rule(target=hints, queue=st.sampled_from(QUEUES), room=st.integers(1, 4))
    def dispatch(self, queue: str, room: int) -> MultipleResults[Hint]:
        return multiple(*self._dispatch(queue, room))

    def _dispatch(self, queue: str, room: int) -> list[Hint]:
        taken, parked = transitions.dispatch(self.cursor, queue=queue, room=room)
        hints = [(one.id, one.dispatch_seq) for one in taken]
        assert (hints, parked) == self.reference.dispatch(queue, room)
        self.seen["blocked"] += parked
        return hints

    @rule(
        chosen=st.lists(hints, min_size=1, max_size=3, unique=True),
        what=st.sampled_from(ANSWERS),
    )
    def answer_of_the_broker(self, chosen: list[Hint], what: str) -> None:
        getattr(self, what)(chosen)

    def _hint(self, task_id: uuid.UUID, seq: int) -> transitions.DispatchedTask:
        queue = self.reference.tasks[task_id].queue
        return transitions.DispatchedTask(task_id, seq, "demo.echo", queue)

    def mark_published(self, chosen: list[Hint]) -> None:
        transitions.mark_published(self.cursor, [self._hint(*one) for one in chosen])
        self.reference.mark_published(chosen)

    def undispatch(self, chosen: list[Hint]) -> None:
        taken = transitions.undispatch(self.cursor, [self._hint(*one) for one in chosen])
        assert taken == self.reference.undispatch(chosen)
        self.seen["undispatched"] += taken

    def return_hints(self, chosen: list[Hint]) -> None:
        taken = transitions.return_hints(self.cursor, chosen)
        assert taken == self.reference.undispatch(chosen)
        self.seen["returned"] += taken

    @rule(hint=consumes(hints))
    def broker_drops(self, hint: Hint) -> None:
        self.seen["hint dropped"] += 1

    def hand_back(self, chosen: list[Hint]) -> None:
        hint = chosen[0]
        state = transitions.hand_back(
            self.cursor,
            hint[0],
            dispatch_seq=hint[1],
            worker="w1:1",
            delay_seconds=5,
            limit=HAND_BACKS,
            error='{"code": "UNKNOWN_TASK_TYPE"}',
        )
        assert state == self.reference.hand_back(hint, 5, HAND_BACKS)
        self.seen[f"hand_back {state}"] += 1

    # --- workers ---------------------------------------------------------------------------

    @rule(target=claims, hint=hints, owner=st.sampled_from(WORKERS))
    def deliver(self, hint: Hint, owner: str) -> Held | MultipleResults[Held]:
        """The hint stays in the bundle: delivered again, late or out of order it claims nothing."""
        claim = self._claim(hint, owner)
        return multiple() if claim is None else claim

    def _claim(self, hint: Hint, owner: str) -> Held | None:
        claims = claim_all(self.cursor, [hint], owner, LEASE)
        return self._claimed(claims[0] if claims else None, hint, owner)

    def _claimed(self, claim: transitions.Claim | None, hint: Hint, owner: str) -> Held | None:
        epoch = self.reference.claim(hint, owner, LEASE)
        assert (claim.epoch if claim else None) == epoch
        self.seen["claim" if claim else "stale hint dropped"] += 1
        if claim is None:
            return None
        task = self.reference.tasks[claim.id]
        assert claim.attempts_left == task.max_retry + 1 - (task.attempt - task.attempt_base)
        self.crashed.discard(owner)
        self.held.append((claim.id, claim.epoch, owner))
        return claim.id, claim.epoch, owner

    @rule(target=claims, queue=st.sampled_from(QUEUES), owner=st.sampled_from(WORKERS))
    def serve(self, queue: str, owner: str) -> MultipleResults[Held]:
        """The way without faults: dispatch, confirm, claim."""
        hints = self._dispatch(queue, 3)
        self.mark_published(hints)
        claimed = [self._claim(hint, owner) for hint in hints]
        return multiple(*(one for one in claimed if one is not None))

    @rule(
        target=claims,
        chosen=st.lists(hints, min_size=2, max_size=5, unique_by=lambda hint: hint[0]),
        owner=st.sampled_from(WORKERS),
    )
    def deliver_bundle(self, chosen: list[Hint], owner: str) -> MultipleResults[Held]:
        """Hints of one message, good and stale ones, are claimed in one statement."""
        found = {one.id: one for one in claim_all(self.cursor, chosen, owner, LEASE)}
        claimed = [self._claimed(found.get(hint[0]), hint, owner) for hint in chosen]
        self.seen["bundle partly claimed"] += None in claimed and any(claimed)
        return multiple(*(one for one in claimed if one is not None))

    @rule(
        chosen=st.lists(claims, min_size=2, max_size=5, unique_by=lambda claim: claim[0]),
        what=st.sampled_from(["succeed", "succeed", "interrupt"]),
    )
    def end_bundle(self, chosen: list[Held], what: str) -> None:
        """Claims, current and past ones, end well or are handed back in one statement."""
        if what == "succeed":
            ended = [transitions.Success(id=one[0], epoch=one[1], result="1") for one in chosen]
            taken = transitions.succeed(self.cursor, ended)
            wanted = [self.reference.finish(*one[:2], "success", "success") for one in chosen]
        else:
            held = [one[:2] for one in chosen]
            taken = set(transitions.interrupt(self.cursor, held, reason="held_up"))
            wanted = [self.reference.interrupt(*one) for one in held]
        is_taken = [one is not None for one in wanted]
        assert [one[0] in taken for one in chosen] == is_taken
        for claim, was_taken in zip(chosen, is_taken, strict=True):
            self.seen[f"{what} of a bundle {'taken' if was_taken else 'refused'}"] += 1
            self._count_stale(what, is_taken=was_taken, claim=claim)

    @rule(owner=st.sampled_from(WORKERS), what=st.sampled_from(["crash", "renew", "renew"]))
    def lease(self, owner: str, what: str) -> None:
        getattr(self, what)(owner)

    @rule(
        claim=claims,
        what=st.sampled_from(WORK),
    )
    def work(self, claim: Held, what: str) -> None:
        """Whatever a worker may try with a claim, whether it is still its own or not."""
        getattr(self, what)(claim)

    def crash(self, owner: str) -> None:
        """Its leases are renewed no more; what it claimed may still try to finish (a zombie)."""
        self.crashed.add(owner)

    def renew(self, owner: str) -> None:
        held = [one[:2] for one in self.held if one[2] == owner and owner not in self.crashed]
        answers = transitions.renew_leases(self.cursor, held, lease_seconds=LEASE)
        assert {one.id for one in answers} == self.reference.renew(held, LEASE)
        for one in answers:
            task = self.reference.tasks[one.id]
            assert (one.cancel_requested_at is not None) == task.is_cancel_asked
            assert one.is_overdue == ((task.run_deadline or 0.0) < self.reference.now)

    def report_progress(self, claim: Held) -> None:
        answer = progress.save_progress(
            self.cursor, claim[0], epoch=claim[1], percent=40, message="m", detail=None
        )
        assert (answer is not None) == self.reference.note(*claim[:2])
        if answer is not None:
            assert answer == self.reference.tasks[claim[0]].is_cancel_asked
        self._count_stale("progress", is_taken=answer is not None)

    def store_once(self, claim: Held) -> None:
        key = "charge"
        is_stored = progress.store_once(
            self.cursor, claim[0], epoch=claim[1], key=key, value=str(claim[1])
        )
        task = self.reference.held(*claim[:2])
        assert is_stored == (task is not None and key not in task.once)
        if task is not None:
            task.once.setdefault(key, claim[1])
            assert progress.find_once(self.cursor, task.id, key) == (task.once[key],)

    def succeed(self, claim: Held) -> None:
        is_taken = succeed_one(self.cursor, claim[0], epoch=claim[1])
        wanted = self.reference.finish(*claim[:2], "success", "success")
        assert is_taken == (wanted is not None)
        self._count_stale("succeed", is_taken=is_taken, claim=claim)

    def fail(self, claim: Held) -> None:
        state = ("failed", "error", "timeout")[claim[1] % 3]
        is_taken = transitions.fail(
            self.cursor, claim[0], epoch=claim[1], state=state, error='{"code": "X"}'
        )
        outcome = "timeout" if state == "timeout" else "failed"
        assert is_taken == (self.reference.finish(*claim[:2], state, outcome) is not None)
        self._count_stale("fail", is_taken=is_taken, claim=claim)

    def fail_and_retry(self, claim: Held) -> None:
        """As the runner does: only while attempts are left, else it fails."""
        task = self.reference.held(*claim[:2])
        if task is not None and not task.has_attempts_left:
            self.fail(claim)
            return
        delay = 5 * claim[1]
        state = transitions.retry(
            self.cursor, claim[0], epoch=claim[1], delay_seconds=delay, error='{"code": "X"}'
        )
        assert state == self.reference.retry(*claim[:2], delay)
        self._count_stale("retry", is_taken=state is not None, claim=claim)

    def interrupt(self, claim: Held) -> None:
        state = interrupt_one(self.cursor, claim[0], epoch=claim[1])
        assert state == self.reference.interrupt(*claim[:2])
        self._count_stale("interrupt", is_taken=state is not None, claim=claim)

    def lose(self, claim: Held) -> None:
        is_taken = transitions.lose(self.cursor, claim[0], epoch=claim[1], max_rescues=MAX_RESCUES)
        assert is_taken == self.reference.lose(*claim[:2], MAX_RESCUES)
        self._count_stale("lose", is_taken=is_taken, claim=claim)

    def stop(self, claim: Held) -> None:
        is_taken = transitions.cancel_delivered(
            self.cursor, claim[0], epoch=claim[1], worker="w", signal="SIGTERM"
        )
        assert is_taken == self.reference.note(*claim[:2], only_cancelling=True)
        is_taken = transitions.confirm_cancel(
            self.cursor, claim[0], epoch=claim[1], how="cooperative"
        )
        assert is_taken == self.reference.confirm_cancel(*claim[:2])
        self.seen["cancel confirmed"] += is_taken

    def _count_stale(self, verb: str, *, is_taken: bool, claim: Held | None = None) -> None:
        self.seen[f"{verb} {'taken' if is_taken else 'refused'}"] += 1
        if not is_taken and claim is not None:
            transitions.record_stale(
                self.cursor, claim[0], epoch=claim[1], verb=verb, worker=claim[2]
            )

    # --- clients and operators -------------------------------------------------------------

    @rule(task_id=tasks, grace=st.sampled_from([None, 5.0, 0.0]))
    def request_cancel(self, task_id: uuid.UUID, grace: float | None) -> None:
        was = self.reference.tasks[task_id].state
        state = transitions.request_cancel(
            self.cursor,
            tenant_id=self.world.tenant,
            task_id=task_id,
            actor="api:1",
            reason="",
            grace_seconds=grace,
        )
        assert state == self.reference.request_cancel(task_id, grace)
        self.seen[f"cancel of {was}" if state else "cancel refused"] += 1

    @rule(chosen=st.lists(tasks, min_size=1, max_size=3))
    def redrive(self, chosen: list[uuid.UUID]) -> None:
        wanted = self.reference.redrive(chosen)
        try:
            with self.world.connection.transaction():
                taken = transitions.redrive(
                    self.cursor, tenant_id=self.world.tenant, task_ids=chosen, actor="admin"
                )
        except psycopg.errors.UniqueViolation:
            assert wanted is None
            self.seen["redrive refused"] += 1
        else:
            assert set(taken) == wanted
            self.seen["redriven"] += len(taken)

    @rule(
        task_id=tasks,
        priority=st.sampled_from([None, 5]),
        queue=st.sampled_from([None, *QUEUES]),
        wait=st.sampled_from([None, -5, 30]),
        is_current=st.sampled_from([True, True, False]),
    )
    def revise(
        self,
        task_id: uuid.UUID,
        priority: int | None,
        queue: str | None,
        wait: int | None,
        *,
        is_current: bool,
    ) -> None:
        run_at = None if wait is None else self.reference.now + wait
        changes = {"priority": priority, "queue": queue}
        if run_at is not None:
            changes["run_at"] = (self.world.start + timedelta(seconds=run_at)).isoformat()
        self.cursor.execute("SELECT version FROM taskmill_task WHERE id = %(id)s", {"id": task_id})
        version = self.cursor.fetchone()[0]
        state = transitions.revise(
            self.cursor,
            tenant_id=self.world.tenant,
            task_id=task_id,
            version=version if is_current else version - 1,
            changes={name: value for name, value in changes.items() if value is not None},
            actor="api:1",
        )
        wanted = None
        if is_current:
            wanted = self.reference.revise(task_id, priority=priority, queue=queue, run_at=run_at)
        assert state == wanted
        self.seen["revised"] += state is not None

    # --- maintenance and time --------------------------------------------------------------

    @rule(what=st.sampled_from(MAINTAIN))
    def maintain(self, what: str) -> None:
        getattr(self, what)()

    def promote(self) -> None:
        count = transitions.promote(self.cursor)
        assert count == self.reference.promote()
        self.seen["promoted"] += count

    def sweep(self) -> None:
        count = transitions.sweep(
            self.cursor, publish_grace_seconds=PUBLISH_GRACE, redispatch_seconds=REDISPATCH
        )
        assert count == self.reference.sweep(PUBLISH_GRACE, REDISPATCH)
        self.seen["swept"] += count

    def rescue(self) -> None:
        count = transitions.rescue(self.cursor, grace_seconds=GRACE, max_rescues=MAX_RESCUES)
        assert count == self.reference.rescue(GRACE, MAX_RESCUES)
        self.seen.update({"rescued": count, "rescued too often": self.reference.given_up})

    def expire(self) -> None:
        assert transitions.expire_pending(self.cursor) == self.reference.expire_pending()
        count = transitions.expire_running(self.cursor, grace_seconds=GRACE)
        assert count == self.reference.expire_running(GRACE)
        self.seen["ran too long"] += count

    def unblock(self) -> None:
        count = transitions.unblock(self.cursor).count
        assert count == self.reference.unblock()
        self.seen["unblocked"] += count

    @rule(seconds=st.sampled_from(SECONDS))
    def clock(self, seconds: int) -> None:
        """Time passes, or the clock of the database is set back."""
        self.world.set_clock(self.reference.now + seconds)

    # --- what must hold --------------------------------------------------------------------

    @invariant()
    def store_equals_reference(self) -> None:
        assert self.world.differences() == []

    @invariant()
    def history_is_legal(self) -> None:
        history = read_history(self.cursor)
        assert violations(history, accepted=self.accepted) == []
        tasks = self.reference.tasks.values()
        trails = {
            one: [(event.from_state, event.state) for event in events]
            for one, events in history.events_of.items()
        }
        assert trails == {one.id: one.trail for one in tasks}
        assert self.world.ended_attempts() == {one.id: one.ended for one in tasks if one.ended}

    def teardown(self) -> None:
        """Heal: workers run what they are handed, the loops turn, time passes; then all is over."""
        try:
            for _ in range(MOST_TURNS):
                if all(one.is_finished for one in self.reference.tasks.values()):
                    break
                self._turn_once()
            self.store_equals_reference()
            history = read_history(self.cursor)
            found = violations(history, accepted=self.accepted, must_be_finished=True)
            assert not found, found[:5]
        finally:
            self.world.close()

    def _turn_once(self) -> None:
        self.world.set_clock(self.reference.now + 61)
        for step in (self.promote, self.sweep, self.rescue, self.expire, self.unblock):
            step()
        for queue in QUEUES:
            for hint in self._dispatch(queue, 100):
                claim = self._claim(hint, "healed")
                if claim is not None:
                    self.succeed(claim)
