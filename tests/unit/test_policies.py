"""Retry policies: what follows a failed attempt, and how long it waits."""

from __future__ import annotations

import socket

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tasks_app.errors import HandlerDeclarationError, Permanent, ProcessTimeout, RetryLater
from tasks_app.policies import (
    MAX_DELAY_SECONDS,
    PERMANENT_CODES,
    TEMPORARY_CODES,
    ErrorInfo,
    Jitter,
    Retry,
    Verdict,
    decide_after_failure,
    describe_error,
    next_delay,
)

OTHER = ErrorInfo(code="HANDLER_ERROR", type="ValueError", message="no")
BUSY = ErrorInfo(code="SERVICE_UNAVAILABLE", type="X", message="busy")
attempts = st.integers(1, 10**6)
shares = st.floats(0, 1, exclude_max=True)
delays = st.floats(0, MAX_DELAY_SECONDS)
policies = st.one_of(
    st.just(Retry.smart()),
    st.builds(Retry.fixed, delays, jitter=st.sampled_from(Jitter)),
    st.builds(
        Retry.exponential,
        delays,
        factor=st.floats(1, 10),
        max_delay=delays,
        jitter=st.sampled_from(Jitter),
    ),
)


@given(policies, attempts, shares, st.sampled_from([OTHER, BUSY]))
def test_a_delay_is_never_negative_endless_or_above_its_cap(
    policy: Retry, failed: int, share: float, error: ErrorInfo
) -> None:
    delay = next_delay(policy, error, failed_attempts=failed, rng=lambda: share)
    assert delay is not None
    assert 0 <= delay <= max(policy.max_delay_seconds, 60.0 if policy.kind == "smart" else 0.0)


@given(st.floats(0, 1000), st.floats(1, 10), delays, attempts)
def test_an_exponential_delay_never_shrinks_from_one_attempt_to_the_next(
    first: float, factor: float, cap: float, failed: int
) -> None:
    policy = Retry.exponential(first, factor=factor, max_delay=cap, jitter="none")
    now = next_delay(policy, OTHER, failed_attempts=failed)
    after = next_delay(policy, OTHER, failed_attempts=failed + 1)
    assert now is not None
    assert after is not None
    assert now <= after


@given(shares)
def test_jitter_spreads_over_its_part_of_the_delay(share: float) -> None:
    def delay(jitter: str) -> float:
        found = next_delay(
            Retry.fixed(10, jitter=jitter), OTHER, failed_attempts=1, rng=lambda: share
        )
        assert found is not None
        return found

    assert delay("none") == 10
    assert 5 <= delay("equal") <= 10
    assert delay("full") == pytest.approx(10 * share)


def test_temporary_errors_double_from_one_second_to_sixty_and_others_wait_five() -> None:
    def smart(error: ErrorInfo, failed: int) -> float | None:
        return next_delay(Retry.smart(), error, failed_attempts=failed, rng=lambda: 1.0)

    assert [smart(BUSY, failed) for failed in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert smart(OTHER, 1) == smart(OTHER, 7) == 5


@pytest.mark.parametrize("code", sorted(PERMANENT_CODES))
def test_a_permanent_code_ends_the_task_at_once(code: str) -> None:
    error = ErrorInfo(code=code, type="X", message="")
    verdict = decide_after_failure(Retry.smart(), error, failed_attempts=1, attempts_left=9)
    assert verdict == Verdict(is_retry=False, is_retryable=False, final_state="failed")


def test_the_handler_may_ask_for_its_own_delay_or_for_the_end() -> None:
    later = describe_error(RetryLater(42))
    verdict = decide_after_failure(Retry.smart(), later, failed_attempts=1, attempts_left=1)
    assert verdict == Verdict(is_retry=True, is_retryable=True, delay_seconds=42)
    never = describe_error(Permanent("BROKEN"))
    assert not decide_after_failure(
        Retry.fixed(1), never, failed_attempts=1, attempts_left=5
    ).is_retry


def test_the_last_attempt_is_final_and_a_process_timeout_ends_as_timeout() -> None:
    late = describe_error(ProcessTimeout())
    assert late.code == "TIMEOUT"
    last = decide_after_failure(Retry.smart(), late, failed_attempts=4, attempts_left=0)
    assert last == Verdict(is_retry=False, is_retryable=True, final_state="timeout")
    last = decide_after_failure(Retry.smart(), OTHER, failed_attempts=4, attempts_left=0)
    assert last.final_state == "failed"


def test_never_and_a_custom_policy_that_gives_none_end_the_task() -> None:
    for policy in (Retry.never(), Retry.custom(lambda failed, error: None)):
        assert not decide_after_failure(policy, OTHER, failed_attempts=1, attempts_left=5).is_retry


@given(st.floats(allow_nan=False))
def test_a_custom_delay_is_kept_within_bounds(asked: float) -> None:
    delay = next_delay(Retry.custom(lambda failed, error: asked), OTHER, failed_attempts=1)
    assert delay is not None
    assert 0 <= delay <= MAX_DELAY_SECONDS


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError(), "TIMEOUT"),
        (ConnectionResetError(), "NETWORK_ERROR"),
        (socket.gaierror(), "NETWORK_ERROR"),
        (ValueError("x"), "HANDLER_ERROR"),
        (Permanent("MY_CODE"), "MY_CODE"),
    ],
)
def test_an_exception_has_a_public_code(error: BaseException, code: str) -> None:
    assert describe_error(error).code == code


def test_a_known_code_on_a_foreign_exception_is_taken_and_an_unknown_one_is_not() -> None:
    for code in ("NOT_FOUND", *TEMPORARY_CODES):
        assert describe_error(type("Foreign", (Exception,), {"code": code})()).code == code
    assert describe_error(type("Foreign", (Exception,), {"code": "E77"})()).code == "HANDLER_ERROR"


def test_messages_and_tracebacks_are_cut_and_an_empty_message_is_the_class() -> None:
    found = describe_error(ValueError("x" * 9000), traceback="y" * 99_999)
    assert (len(found.message), len(found.traceback)) == (2000, 65_536)
    assert describe_error(KeyError()).message == "KeyError"
    assert "traceback" not in found.public(attempt=1, is_retryable=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(kind="often"),
        lambda: Retry.fixed(-1),
        lambda: Retry.fixed(MAX_DELAY_SECONDS + 1),
        lambda: Retry.exponential(1, factor=0.5),
        lambda: Retry.exponential(1, factor=11),
        lambda: Retry.exponential(1, max_delay=-1),
    ],
)
def test_a_policy_out_of_bounds_is_refused_when_it_is_declared(make: object) -> None:
    assert callable(make)
    with pytest.raises(HandlerDeclarationError):
        make()


@given(policies)
def test_a_policy_survives_its_way_through_json(policy: Retry) -> None:
    assert Retry.from_json(policy.as_json()) == policy
