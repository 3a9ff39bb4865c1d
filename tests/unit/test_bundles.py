"""How tasks are put together into messages."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from tasks_app.dispatch.bundles import BUNDLE_SECONDS, MOST_IN_BUNDLE, bundle, size_for
from tasks_app.hints import read_hints
from tasks_app.transitions import DispatchedTask

KINDS = st.tuples(st.sampled_from(["q1", "q2"]), st.sampled_from(["fast", "slow"]))


def tasks(kinds: list[tuple[str, str]]) -> list[DispatchedTask]:
    return [DispatchedTask(uuid.uuid4(), 1, kind, queue) for queue, kind in kinds]


@given(st.lists(KINDS, max_size=60), st.integers(1, 4))
def test_every_task_travels_once_with_its_like(kinds: list[tuple[str, str]], slots: int) -> None:
    batch = tasks(kinds)
    found = bundle(batch, {"fast": 10}, {"q1": slots, "q2": slots})
    assert sorted(task.id for one in found for task in one.tasks) == sorted(
        task.id for task in batch
    )
    assert all(len({(task.queue, task.type) for task in one.tasks}) == 1 for one in found)
    assert all(len(one.tasks) <= one.most for one in found)
    assert all(one.most == (10 if one.tasks[0].type == "fast" else 1) for one in found)
    for kind in set(kinds):
        number = sum((one.tasks[0].queue, one.tasks[0].type) == kind for one in found)
        assert number >= min(2 * slots, kinds.count(kind))


def test_tasks_of_one_kind_stay_in_order() -> None:
    batch = tasks([("q", "fast")] * 40)
    found = bundle(batch, {"fast": 5}, {"q": 2})
    assert [task for one in found for task in one.tasks] == batch
    assert [len(one.tasks) for one in found] == [5] * 8


def test_a_bundle_holds_a_bounded_amount_of_payload() -> None:
    sizes = [400_000, 400_000, 400_000, 2_000_000, 10, 999_990, 1]
    batch = [DispatchedTask(uuid.uuid4(), 1, "fast", "q", size) for size in sizes * 6]
    found = bundle(batch, {"fast": 100}, {"q": 1})
    assert [task for one in found for task in one.tasks] == batch
    held = [[task.payload_bytes for task in one.tasks] for one in found]
    assert held[:5] == [
        [400_000, 400_000],
        [400_000],
        [2_000_000],
        [10, 999_990],
        [1, 400_000, 400_000],
    ]


def test_a_bundle_holds_a_bounded_amount_of_work() -> None:
    assert size_for(0.0) == MOST_IN_BUNDLE
    assert size_for(BUNDLE_SECONDS / 4) == 4
    assert size_for(10.0) == 1


def test_what_is_no_hint_is_read_as_none() -> None:
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    assert read_hints(one, [3]) == [(uuid.UUID(one), 3)]
    assert read_hints(one, [3, [[two, 4]]]) == [(uuid.UUID(one), 3), (uuid.UUID(two), 4)]
    assert read_hints("no-uuid", [3]) == []
    assert read_hints(one, ["x"]) == []
    assert read_hints(one, []) == []
    assert read_hints(one, [3, [[two]]]) == []
