"""A second implementation of the protocol in plain Python, from the state table and the rules.

The state machine carries every operation out on both and compares the rows. Times are seconds since
the start of the example; the clock moves only when it is told to. Nothing here calls or reads SQL.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

PENDING = {"scheduled", "queued", "blocked", "dispatched", "retrying"}
PROCESSING = {"running", "cancelling"}
HOLDS_SLOT = {"dispatched", "running", "cancelling"}
REDRIVABLE = {"failed", "error", "timeout", "cancelled"}


EndedAttempt = tuple[int, str, float | None, float | None]
"""Number, outcome, when it became ready, when it started."""


@dataclass
class ReferenceTask:
    """What the protocol promises about one task.

    `trail` is `(from, to)` of every event, `ended` the attempts that are over, by epoch.
    """

    id: uuid.UUID
    queue: str
    state: str
    run_at: float
    updated_at: float
    max_retry: int
    process_timeout: int
    priority: int = 0
    key: str | None = None
    limit: int | None = None
    unique: str | None = None
    queue_timeout: int | None = None
    queue_deadline: float | None = None
    queued_at: float | None = None
    started_at: float | None = None
    dispatched_at: float | None = None
    published_at: float | None = None
    lease_until: float | None = None
    run_deadline: float | None = None
    owner: str | None = None
    is_cancel_asked: bool = False
    cancel_grace: float | None = None
    attempt: int = 0
    attempt_base: int = 0
    epoch: int = 0
    rescues: int = 0
    interrupts: int = 0
    sweeps: int = 0
    hand_backs: int = 0
    dispatch_seq: int = 0
    blocked_by: str | None = None
    let_go_by: str | None = None
    trail: list[tuple[str | None, str]] = field(default_factory=list)
    ended: dict[int, EndedAttempt] = field(default_factory=dict)
    once: dict[str, int] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        return self.state not in PENDING | PROCESSING

    @property
    def has_attempts_left(self) -> bool:
        return self.attempt - self.attempt_base <= self.max_retry

    @property
    def order(self) -> tuple[float, float, uuid.UUID]:
        return (-self.priority, self.run_at, self.id)


class Reference:
    """All tasks of one example, and what each verb does to them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.given_up = 0
        self.tasks: dict[uuid.UUID, ReferenceTask] = {}

    def _move(self, task: ReferenceTask, state: str) -> None:
        task.trail.append((task.state, state))
        if state not in PROCESSING:
            task.owner = task.lease_until = None
            if task.state in PROCESSING:
                task.run_deadline = None
        task.state = state
        task.updated_at = max(task.updated_at, self.now)

    def _end_attempt(self, task: ReferenceTask, outcome: str, state: str) -> None:
        task.ended[task.epoch] = (task.attempt, outcome, task.queued_at, task.started_at)
        self._move(task, state)

    def _in(self, *states: str) -> list[ReferenceTask]:
        return [task for task in self.tasks.values() if task.state in states]

    def submit(
        self,
        task_id: uuid.UUID,
        *,
        queue: str,
        delay: float,
        priority: int,
        max_retry: int,
        key: tuple[str, int] | None,
        unique: str | None,
        queue_timeout: int | None,
        process_timeout: int,
    ) -> bool:
        live = [one for one in self.tasks.values() if not one.is_finished]
        if unique is not None and any(one.unique == unique for one in live):
            return False
        start = self.now + delay
        state = "scheduled" if delay > 0 else "queued"
        self.tasks[task_id] = ReferenceTask(
            id=task_id,
            queue=queue,
            state=state,
            run_at=start,
            updated_at=self.now,
            max_retry=max_retry,
            process_timeout=process_timeout,
            priority=priority,
            key=key[0] if key else None,
            limit=key[1] if key else None,
            unique=unique,
            queue_timeout=queue_timeout,
            queue_deadline=None if queue_timeout is None else start + queue_timeout,
            queued_at=start if state == "queued" else None,
            trail=[(None, state)],
        )
        return True

    def promote(self) -> int:
        due = [task for task in self._in("scheduled", "retrying") if task.run_at <= self.now]
        for task in due:
            self._move(task, "queued")
            task.queued_at = self.now
        return len(due)

    def _active(self, key: str) -> int:
        return sum(task.key == key for task in self._in(*HOLDS_SLOT))

    def dispatch(self, queue: str, room: int) -> tuple[list[tuple[uuid.UUID, int]], int]:
        """Nobody overtakes a task of its own key: who comes after a parked one is parked too."""
        ready = [
            task for task in self._in("queued") if task.queue == queue and task.run_at <= self.now
        ]
        active = {task.key: self._active(task.key) for task in ready if task.key is not None}
        hints: list[tuple[uuid.UUID, int]] = []
        parked = 0
        closed: set[str] = set()
        for task in sorted(ready, key=lambda one: one.order)[:room]:
            key, limit = task.key, task.limit
            if key is not None and (key in closed or active[key] >= (limit or 0)):
                self._move(task, "blocked")
                task.dispatched_at = None
                task.blocked_by, task.let_go_by = key, None
                closed.add(key)
                parked += 1
            else:
                if key is not None:
                    active[key] += 1
                self._move(task, "dispatched")
                task.blocked_by = task.let_go_by = None
                task.dispatch_seq += 1
                task.dispatched_at = self.now
                hints.append((task.id, task.dispatch_seq))
            task.published_at = None
        return hints, parked

    def unblock(self) -> int:
        """Free slots of a key go to its parked tasks, less those on their way in the same queue."""
        freed = []
        for key, queue in sorted({(str(one.blocked_by), one.queue) for one in self._in("blocked")}):
            parked = sorted(
                (one for one in self._in("blocked") if (one.blocked_by, one.queue) == (key, queue)),
                key=lambda one: one.order,
            )
            used = self._active(key) + sum(
                (one.let_go_by, one.queue) == (key, queue) for one in self._in("queued")
            )
            for task in parked[: max(0, (parked[0].limit or 0) - used)]:
                if used >= (task.limit or 0):
                    break
                used += 1
                freed.append(task)
        for task in freed:
            self._move(task, "queued")
            task.blocked_by, task.let_go_by = None, task.blocked_by
        return len(freed)

    def _hinted(self, hint: tuple[uuid.UUID, int]) -> ReferenceTask | None:
        task = self.tasks[hint[0]]
        return task if task.state == "dispatched" and task.dispatch_seq == hint[1] else None

    def mark_published(self, hints: Iterable[tuple[uuid.UUID, int]]) -> None:
        for hint in hints:
            task = self._hinted(hint)
            if task is not None and task.published_at is None:
                task.published_at = self.now

    def undispatch(self, hints: Iterable[tuple[uuid.UUID, int]]) -> int:
        taken = [task for task in map(self._hinted, set(hints)) if task is not None]
        for task in taken:
            self._move(task, "queued")
        return len(taken)

    def sweep(self, publish_grace: float, redispatch: float) -> int:
        swept = 0
        for task in self._in("dispatched"):
            age = self.now - (task.dispatched_at or 0.0)
            never_confirmed = task.published_at is None and age > publish_grace
            if never_confirmed or age > redispatch * 2 ** min(task.sweeps, 5):
                self._move(task, "queued")
                task.sweeps += 1
                swept += 1
        return swept

    def hand_back(self, hint: tuple[uuid.UUID, int], delay: float, limit: int) -> str | None:
        task = self._hinted(hint)
        if task is None:
            return None
        self._move(task, "error" if task.hand_backs >= limit else "queued")
        task.hand_backs += 1
        task.run_at = self.now + delay
        return task.state

    def claim(self, hint: tuple[uuid.UUID, int], owner: str, lease: float) -> int | None:
        task = self._hinted(hint)
        if task is None:
            return None
        if task.queue_deadline is not None and task.queue_deadline <= self.now:
            return None
        self._move(task, "running")
        task.epoch += 1
        task.attempt += 1
        task.owner, task.lease_until = owner, self.now + lease
        task.started_at = self.now
        task.run_deadline = self.now + task.process_timeout
        task.queue_deadline = None
        task.sweeps = task.hand_backs = 0
        return task.epoch

    def held(self, task_id: uuid.UUID, epoch: int) -> ReferenceTask | None:
        """The task, where this epoch still owns it."""
        task = self.tasks[task_id]
        return task if task.state in PROCESSING and task.epoch == epoch else None

    def renew(self, held: Sequence[tuple[uuid.UUID, int]], lease: float) -> set[uuid.UUID]:
        kept = [task for task in (self.held(*one) for one in held) if task is not None]
        for task in kept:
            task.lease_until = self.now + lease
        return {task.id for task in kept}

    def note(self, task_id: uuid.UUID, epoch: int, *, only_cancelling: bool = False) -> bool:
        """Progress and delivery of a cancel: an event, no change of state."""
        task = self.held(task_id, epoch)
        if task is None or (only_cancelling and task.state != "cancelling"):
            return False
        self._move(task, task.state)
        return True

    def finish(self, task_id: uuid.UUID, epoch: int, state: str, outcome: str) -> str | None:
        """End an attempt; `state` is what follows if nobody asked the task to stop meanwhile."""
        task = self.held(task_id, epoch)
        if task is None:
            return None
        if task.state == "cancelling" and state in {"retrying", "queued"}:
            state = "cancelled"
        self._end_attempt(task, outcome, state)
        return state

    def retry(self, task_id: uuid.UUID, epoch: int, delay: float) -> str | None:
        state = self.finish(task_id, epoch, "retrying", "failed")
        if state is not None:
            self.tasks[task_id].run_at = self.now + delay
        return state

    def interrupt(self, task_id: uuid.UUID, epoch: int) -> str | None:
        state = self.finish(task_id, epoch, "queued", "interrupted")
        if state is not None:
            task = self.tasks[task_id]
            task.interrupts += 1
            task.attempt -= state == "queued"
            task.queued_at = self.now
        return state

    def confirm_cancel(self, task_id: uuid.UUID, epoch: int) -> bool:
        task = self.held(task_id, epoch)
        if task is None or task.state != "cancelling":
            return False
        self._end_attempt(task, "cancelled", "cancelled")
        return True

    def _lose(self, task: ReferenceTask, max_rescues: int) -> None:
        task.run_at = self.now + min(60, 2 ** min(task.rescues, 6))
        is_over = task.rescues >= max_rescues or not task.has_attempts_left
        task.rescues += 1
        if task.state == "cancelling":
            self._end_attempt(task, "lost", "cancelled")
        else:
            self.given_up += is_over and task.has_attempts_left
            self._end_attempt(task, "lost", "error" if is_over else "retrying")

    def rescue(self, grace: float, max_rescues: int) -> int:
        dead = [
            task for task in self._in(*PROCESSING) if (task.lease_until or 0.0) < self.now - grace
        ]
        for task in dead:
            self._lose(task, max_rescues)
        return len(dead)

    def lose(self, task_id: uuid.UUID, epoch: int, max_rescues: int) -> bool:
        task = self.held(task_id, epoch)
        if task is None:
            return False
        self._lose(task, max_rescues)
        return True

    def expire_pending(self) -> int:
        due = [
            task
            for task in self._in(*PENDING)
            if task.queue_deadline is not None and task.queue_deadline <= self.now
        ]
        for task in due:
            self._move(task, "timeout")
        return len(due)

    def expire_running(self, grace: float) -> int:
        due = [
            task for task in self._in(*PROCESSING) if (task.run_deadline or 0.0) < self.now - grace
        ]
        for task in due:
            is_retried = task.state == "running" and task.has_attempts_left
            task.run_at = self.now + min(60, 2 ** min(task.attempt - task.attempt_base - 1, 6))
            self._end_attempt(task, "timeout", "retrying" if is_retried else "timeout")
        return len(due)

    def request_cancel(self, task_id: uuid.UUID, grace: float | None) -> str | None:
        task = self.tasks[task_id]
        if task.is_finished:
            return None
        if task.state == "cancelling" and (
            grace is None or (task.cancel_grace is not None and grace >= task.cancel_grace)
        ):
            return None
        self._move(task, "cancelling" if task.state in PROCESSING else "cancelled")
        task.is_cancel_asked = True
        task.cancel_grace = grace
        return task.state

    def redrive(self, task_ids: Sequence[uuid.UUID]) -> set[uuid.UUID] | None:
        """None where the unique key of one is held, by a live task or another of them."""
        chosen = [self.tasks[one] for one in set(task_ids) if self.tasks[one].state in REDRIVABLE]
        holders = [one.unique for one in self.tasks.values() if not one.is_finished and one.unique]
        holders += [one.unique for one in chosen if one.unique]
        if len(holders) != len(set(holders)):
            return None
        for task in chosen:
            self._move(task, "queued")
            task.attempt_base = task.attempt
            task.rescues = task.sweeps = task.hand_backs = 0
            task.run_at = task.queued_at = self.now
            timeout = task.queue_timeout
            task.queue_deadline = None if timeout is None else self.now + timeout
            task.is_cancel_asked, task.cancel_grace = False, None
            task.started_at = None
        return {task.id for task in chosen}

    def revise(
        self, task_id: uuid.UUID, *, priority: int | None, queue: str | None, run_at: float | None
    ) -> str | None:
        task = self.tasks[task_id]
        if task.state not in PENDING:
            return None
        was = task.state
        if run_at is not None:
            task.run_at = run_at
            if task.queue_deadline is not None and task.queue_timeout is not None:
                task.queue_deadline = max(run_at, self.now) + task.queue_timeout
        task.priority = task.priority if priority is None else priority
        task.queue = queue or task.queue
        if was == "retrying":
            state = "retrying"
        else:
            state = "scheduled" if task.run_at > self.now else "queued"
        self._move(task, state)
        if was == "scheduled" and state == "queued":
            task.queued_at = self.now
        return state
