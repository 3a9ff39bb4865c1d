"""The lease model: the design is safe and live, and each of its broken variants is caught."""

from __future__ import annotations

import pytest

from tests.model.lease_model import Variant, check

CAUGHT = {
    Variant.NO_SWEEPER: "stuck: dispatched",
    Variant.NO_RESCUE: "stuck: running",
    Variant.UNFENCED_STATE_ONLY: "unsafe: ",
    Variant.UNFENCED_NONE: "unsafe: ",
    Variant.RACY_RESCUE: "unsafe: ",
    Variant.SLOT_FREED_BY_WORKER_ONLY: "unsafe: slots",
    Variant.CLAIM_NO_STATE_CHECK: "unsafe: ",
    Variant.GUARD_BY_ATTEMPT: "unsafe: ",
    Variant.INTERRUPT_REFUNDS_EPOCH: "unsafe: ",
    Variant.REDRIVE_RESETS_EPOCH: "unsafe: ",
    Variant.REDRIVE_KEEPS_BASE: "stuck: ",
}


def test_the_protocol_is_safe_and_every_task_can_still_finish() -> None:
    verdict = check(Variant.GOOD)
    assert verdict.fault == "", verdict.trace
    assert verdict.states > 5_000


def test_the_dispatch_number_saves_work_but_safety_does_not_rest_on_it() -> None:
    verdict = check(Variant.NO_SEQ_CHECK)
    assert verdict.fault == "", verdict.trace


@pytest.mark.parametrize("variant", CAUGHT)
def test_a_protocol_without_one_of_its_devices_is_caught(variant: Variant) -> None:
    verdict = check(variant)
    assert verdict.fault.startswith(CAUGHT[variant]), verdict
    assert len(verdict.trace) <= 16, verdict.trace


def test_every_variant_is_tried() -> None:
    assert set(CAUGHT) | {Variant.GOOD, Variant.NO_SEQ_CHECK} == set(Variant)
