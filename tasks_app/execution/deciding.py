"""What follows a failed attempt: the task's own retry policy or its type's, asked with care.

A policy of a handler's author is code of a user's: where it raises, gives no number, or does not
answer a process that must not wait, the default decides, and the log says so. The attempt's own
error is kept in any case.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tasks_app.errors import UnknownTaskType
from tasks_app.policies import ErrorInfo, Retry, Verdict, decide_after_failure
from tasks_app.registry import get_handler
from tasks_app.telemetry import logger

ANSWER_SECONDS: Final = 1.0
"""So long a custom policy may take in a worker's main process, which has leases to keep."""

log = logger(__name__)

_silent: set[str] = set()
"""Task types whose policy did not answer in time: it is not asked in a hurry again."""


def decide(
    task_type: str,
    override: dict[str, Any] | None,
    error: ErrorInfo,
    *,
    failed_attempts: int,
    attempts_left: int,
    is_hurried: bool = False,
) -> Verdict:
    """Decide what follows a failed attempt.

    Args:
        override: the task's own policy, as the API takes it; None for its type's.
        failed_attempts: attempts made since submit or redrive, this one included; at least 1.
        attempts_left: attempts that may still start.
        is_hurried: a custom policy has `ANSWER_SECONDS`, not all the time that it takes.
    """

    def ask(policy: Retry) -> Verdict:
        return decide_after_failure(
            policy, error, failed_attempts=failed_attempts, attempts_left=attempts_left
        )

    policy = _policy_of(task_type, override)
    if policy.function is None:
        return ask(policy)
    try:
        return _in_time(task_type, lambda: ask(policy)) if is_hurried else ask(policy)
    except Exception:
        log.exception("the retry policy failed, the default decides", task_type=task_type)
        return ask(replace(Retry.smart(), never_on=policy.never_on))


def _policy_of(task_type: str, override: dict[str, Any] | None) -> Retry:
    if override:
        return Retry.from_json(override)
    try:
        return get_handler(task_type).options.policy
    except UnknownTaskType:
        return Retry.smart()


def _in_time(task_type: str, ask: Callable[[], Verdict]) -> Verdict:
    """Ask in a thread of its own.

    Raises:
        TimeoutError: it did not answer, now or before; the thread is left to itself.
    """
    if task_type in _silent:
        raise TimeoutError("the policy did not answer before, it is not asked again")
    answers: list[Verdict] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as failure:  # noqa: BLE001 - told to who asked
            failures.append(failure)

    thread = threading.Thread(target=run, name="taskmill-retry-policy", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if failures:
        raise RuntimeError("the policy raised") from failures[0]
    if not answers:
        _silent.add(task_type)
        raise TimeoutError(f"the policy did not answer within {ANSWER_SECONDS} s")
    return answers[0]
