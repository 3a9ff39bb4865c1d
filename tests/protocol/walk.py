"""Long random lives: the state machine's operations, hundreds of steps deep, by a seed."""

from __future__ import annotations

import uuid
from random import Random
from typing import Any

from tests.protocol.choices import MAINTAIN, QUEUES, SECONDS, WORK, WORKERS
from tests.protocol.machine import Held, Hint, Protocol


class Walk:
    """A long random life of many tasks; as the state machine, but every example is deep."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.machine = Protocol()
        self.tasks: list[uuid.UUID] = []
        self.hints: list[Hint] = []
        self.claims: list[Held] = []

    def run(self, steps: int) -> None:
        """Take the steps, checking after each, then heal."""
        moves = (
            *(self._submit, self._serve, self._work, self._dispatch, self._maintain) * 3,
            *(self._deliver, self._bundle, self._hints, self._clock, self._cancel) * 2,
            *(self._drop, self._lease, self._redrive, self._revise),
        )
        try:
            for _ in range(steps):
                self.random.choice(moves)()
                self.machine.store_equals_reference()
            self.machine.history_is_legal()
        finally:
            self.machine.teardown()

    def _submit(self) -> None:
        pick = self.random.choice
        made = self.machine._submit(
            queue=pick(QUEUES),
            delay=pick((0, 0, 0, 5, 40)),
            priority=pick((-1, 0, 1)),
            max_retry=pick((0, 1, 2, 4)),
            key=pick((None, ("one", 1), ("two", 2), ("mixed", 1), ("mixed", 2))),
            unique=pick((None, None, None, "u", "v")),
            queue_timeout=pick((None, None, 10, 60)),
            process_timeout=pick((20, 100)),
        )
        self.tasks += [made] if made else []

    def _serve(self) -> None:
        queue, owner = self.random.choice(QUEUES), self.random.choice(WORKERS)
        served: Any = self.machine.serve(queue=queue, owner=owner)
        self.claims += served.values

    def _dispatch(self) -> None:
        self.hints += self.machine._dispatch(self.random.choice(QUEUES), 3)

    def _recent(self, things: list[Any]) -> Any:
        """Mostly the newest, at times any of all that ever were."""
        return self.random.choice(things[-4:] if self.random.random() < 0.7 else things)

    def _deliver(self) -> None:
        if self.hints:
            claim = self.machine._claim(self._recent(self.hints), self.random.choice(WORKERS))
            self.claims += [claim] if claim else []

    def _bundle(self) -> None:
        pick = self.random
        if pick.random() < 0.5 and self.hints:
            chosen: Any = {hint[0]: hint for hint in (self._recent(self.hints) for _ in range(4))}
            claimed: Any = self.machine.deliver_bundle([*chosen.values()], pick.choice(WORKERS))
            self.claims += claimed.values
        elif self.claims:
            chosen = {claim[0]: claim for claim in (self._recent(self.claims) for _ in range(4))}
            what = pick.choice(("succeed", "interrupt"))
            self.machine.end_bundle([*chosen.values()], what)

    def _hints(self) -> None:
        if self.hints:
            what = self.random.choice(("mark_published", "undispatch", "return_hints", "hand_back"))
            getattr(self.machine, what)([self._recent(self.hints)])

    def _drop(self) -> None:
        if self.hints:
            self.machine.broker_drops(self.hints.pop())

    def _work(self) -> None:
        if self.claims:
            self.machine.work(claim=self._recent(self.claims), what=self.random.choice(WORK))

    def _lease(self) -> None:
        what = self.random.choice(("crash", "renew", "renew"))
        self.machine.lease(owner=self.random.choice(WORKERS), what=what)

    def _maintain(self) -> None:
        self.machine.maintain(what=self.random.choice(MAINTAIN))

    def _clock(self) -> None:
        self.machine.clock(seconds=self.random.choice(SECONDS))

    def _cancel(self) -> None:
        if self.tasks:
            task_id = self._recent(self.tasks)
            for _ in range(self.random.choice((1, 1, 2))):
                grace = self.random.choice((None, 5.0, 0.0))
                self.machine.request_cancel(task_id=task_id, grace=grace)

    def _redrive(self) -> None:
        if self.tasks:
            self.machine.redrive(chosen=[self.random.choice(self.tasks) for _ in range(2)])

    def _revise(self) -> None:
        if self.tasks:
            self.machine.revise(
                task_id=self._recent(self.tasks),
                priority=self.random.choice((None, 5)),
                queue=self.random.choice((None, *QUEUES)),
                wait=self.random.choice((None, -5, 30)),
                is_current=self.random.random() < 0.7,
            )
