"""What follows from a try, who may have how many under way, what is signed and sealed."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from notifications.sealing import SealBroken, seal, unseal
from notifications.signing import new_secret, shown_secret, signed_headers
from notifications.webhooks.lanes import Candidate, Lanes
from notifications.webhooks.verdict import (
    DELAYS_SECONDS,
    TEST_EVENT,
    Outcome,
    Verdict,
    decide,
    retry_after_seconds,
)

NOW = 1_800_000_000.0


def verdict(status: int | None = None, *, tries: int = 1, **outcome: Any) -> Verdict:
    found = Outcome(duration_ms=1, status=status, **outcome)
    return decide(found, tries=tries, event_type="task.succeeded", now=NOW)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_whole_answer_of_the_two_hundreds_is_a_success(status: int) -> None:
    assert verdict(status).state == "delivered"


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 307, 308, 400, 404, 500, 503])
def test_every_other_status_is_tried_again(status: int) -> None:
    assert verdict(status).state == "pending"


def test_an_answer_that_was_not_read_to_its_end_is_no_success() -> None:
    assert verdict(200, error="timeout").state == "pending"
    assert verdict(200, error="too_large").state == "pending"


def test_tries_follow_the_schedule_with_a_jitter_of_a_tenth_and_then_end() -> None:
    for tries, delay in list(enumerate(DELAYS_SECONDS))[1:]:
        found = verdict(500, tries=tries)
        assert delay <= found.delay_seconds <= delay * 1.1
    assert verdict(500, tries=len(DELAYS_SECONDS)).state == "failed"
    assert DELAYS_SECONDS == (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)


def test_gone_ends_it_at_once_and_a_test_has_one_try() -> None:
    assert verdict(410) == Verdict(state="failed", is_gone=True)  # type: ignore[arg-type]
    once = decide(Outcome(duration_ms=1, status=500), tries=1, event_type=TEST_EVENT, now=NOW)
    assert once.state == "failed"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("1000000000", 86_400),
        ("9" * 400, 86_400),
        ("-5", 0),
        ("", 0),
        ("soon", 0),
        ("١٢٠", 0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("Fri, 15 Jan 2007 08:01:00 GMT", 0),
        ("Fri, 15 Jan 9999 08:01:00 GMT", 86_400),
        ("Fri, 99 Jan 2027 08:01:00 GMT", 0),
    ],
)
def test_retry_after_is_read_and_clamped(header: str, seconds: float) -> None:
    assert retry_after_seconds(header, now=NOW) == seconds


@given(st.text())
def test_no_retry_after_breaks_the_sender(header: str) -> None:
    assert 0 <= retry_after_seconds(header, now=NOW) <= 86_400


def test_retry_after_delays_what_is_overloaded_and_shortens_nothing() -> None:
    assert verdict(503, retry_after="3600").delay_seconds == 3600
    assert verdict(429, retry_after="0").delay_seconds >= 5
    assert verdict(500, retry_after="3600").delay_seconds < 10


def due(lane: str, count: int, tenant: int = 1) -> list[Candidate]:
    return [Candidate(f"{lane}-{number}", lane, tenant) for number in range(count)]


def test_a_lane_has_its_cap_and_leaves_room_for_others() -> None:
    lanes = Lanes(most=100, most_per_lane=3)
    chosen = lanes.choose([*due("a", 10), *due("b", 1, tenant=2)], 0.0)
    assert [one.lane for one in chosen] == ["a", "a", "a", "b"]
    assert lanes.full(0.0) == ["a"]
    lanes.ended("a", 1, 0.0, is_success=True)
    assert len(lanes.choose(due("a", 10), 0.0)) == 1


def test_a_tenant_with_many_lanes_has_a_quarter() -> None:
    lanes = Lanes(most=40, most_per_lane=8)
    many = [one for number in range(20) for one in due(f"lane-{number}", 8)]
    assert len(lanes.choose(many, 0.0)) == 10
    assert len(lanes.choose(due("other", 9, tenant=2), 0.0)) == 8


def fail(lanes: Lanes, times: int, now: float) -> None:
    for _ in range(times):
        [one] = lanes.choose(due("a", 1), now)
        lanes.ended("a", one.tenant_id, now, is_success=False)


def test_a_lane_that_fails_is_closed_then_probed_once_then_open_again() -> None:
    lanes = Lanes(most=100, most_per_lane=3)
    fail(lanes, 5, 0.0)
    assert lanes.choose(due("a", 3), 29.0) == []
    assert len(lanes.choose(due("a", 3), 31.0)) == 1
    lanes.ended("a", 1, 31.0, is_success=False)
    assert lanes.choose(due("a", 3), 80.0) == []
    assert len(lanes.choose(due("a", 3), 92.0)) == 1
    lanes.ended("a", 1, 92.0, is_success=True)
    assert len(lanes.choose(due("a", 9), 92.0)) == 3


def test_lanes_at_rest_are_forgotten() -> None:
    lanes = Lanes(most=100, most_per_lane=3)
    [one] = lanes.choose(due("a", 1), 0.0)
    lanes.ended("a", one.tenant_id, 0.0, is_success=None)
    assert (lanes._lanes, lanes.in_flight) == ({}, 0)


@given(st.text(max_size=200), st.booleans())
def test_the_stock_library_verifies_what_is_signed(text: str, is_rotated: bool) -> None:
    from time import time

    keys = [new_secret(), new_secret()]
    body = text.encode()
    headers = signed_headers(
        keys[: 1 + is_rotated], message_id="a-b", timestamp=int(time()), body=body
    )
    for key in keys[: 1 + is_rotated]:
        Webhook(shown_secret(key)).verify(body, headers, json_parse=False)
    if not is_rotated:
        with pytest.raises(WebhookVerificationError):
            Webhook(shown_secret(keys[1])).verify(body, headers, json_parse=False)


@pytest.mark.parametrize("part", ["webhook-id", "webhook-timestamp", "body"])
def test_a_change_of_what_is_signed_is_noticed(part: str) -> None:
    from time import time

    key, now = new_secret(), int(time())
    headers = signed_headers([key], message_id="a", timestamp=now, body=b"{}")
    body = b"{} " if part == "body" else b"{}"
    changed = headers | {"webhook-id": "b", "webhook-timestamp": str(now - 1)}
    sent = headers | ({part: changed[part]} if part != "body" else {})
    with pytest.raises(WebhookVerificationError):
        Webhook(shown_secret(key)).verify(body, sent)


def test_a_sealed_secret_is_unreadable_without_its_key_and_survives_a_change_of_keys(
    settings: Any,
) -> None:
    secret = new_secret()
    sealed = seal(secret)
    assert secret not in base64.b64decode(sealed.removeprefix("1."))
    assert seal(secret) != sealed
    former = settings.SECRET_KEY
    settings.SECRET_KEY = "another"
    with pytest.raises(SealBroken):
        unseal(sealed)
    settings.SECRET_KEY_FALLBACKS = ["a third", former]
    assert unseal(sealed) == secret


def test_a_flipped_bit_of_a_sealed_secret_is_noticed() -> None:
    raw = bytearray(base64.b64decode(seal(new_secret()).removeprefix("1.")))
    for place in range(len(raw)):
        raw[place] ^= 1
        with pytest.raises(SealBroken):
            unseal("1." + base64.b64encode(raw).decode())
        raw[place] ^= 1
