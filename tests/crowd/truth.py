"""What was committed, read from the history of the tasks and not from the feed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from django.db import connection

from tasks_app.feed import FINAL_EVENTS

PROGRESS = "task.progress"


@dataclass(frozen=True)
class Step:
    """An event of a task."""

    seq: int
    type: str


@dataclass
class Story:
    """A task and all its events, in order."""

    id: str
    tenant_id: int
    tags: frozenset[str]
    steps: list[Step] = field(default_factory=list)

    @property
    def end(self) -> Step:
        return self.steps[-1]

    def of(self, types: frozenset[str]) -> list[Step]:
        """Give the events of these types; all for none."""
        return [step for step in self.steps if not types or step.type in types]


Wish = Callable[[Story], bool]


def read_truth() -> dict[str, Story]:
    """Give every task of every tenant by its id; each has ended."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id::text, tenant_id, tags FROM taskmill_task")
        found = {
            name: Story(name, tenant_id, frozenset(tags))
            for name, tenant_id, tags in cursor.fetchall()
        }
        cursor.execute(
            "SELECT task_id::text, seq, type FROM taskmill_event"
            " WHERE task_id IS NOT NULL ORDER BY task_id, seq"
        )
        for name, seq, kind in cursor.fetchall():
            found[name].steps.append(Step(seq, kind))
    for story in found.values():
        assert [step.seq for step in story.steps] == list(range(1, len(story.steps) + 1))
        assert story.end.type in FINAL_EVENTS, story
    return found


def gaps(expected: list[Step], got: list[Step]) -> list[str]:
    """Say what is missing, doubled or out of order.

    Progress may be left out where a newer progress of the task came instead, which is what a
    subscriber that takes events slowly is promised.
    """
    if got == expected:
        return []
    wrong = []
    if any(later.seq <= step.seq for step, later in pairwise(got)):
        wrong.append(f"order or duplicate: {[step.seq for step in got]}")
    seqs = {step.seq for step in got}
    newest = max((step.seq for step in got if step.type == PROGRESS), default=0)
    missing = [
        step
        for step in expected
        if step.seq not in seqs and not (step.type == PROGRESS and step.seq < newest)
    ]
    if missing:
        wrong.append(f"gap: {missing} in {sorted(seqs)}")
    if strange := seqs - {step.seq for step in expected}:
        wrong.append(f"never asked for: {sorted(strange)}")
    return wrong
