"""What follows from a try: pure decisions, without clock, network or database."""

from __future__ import annotations

import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

TEST_EVENT: Final = "webhook.test"
DELAYS_SECONDS: Final = (
    0,
    5,
    5 * 60,
    30 * 60,
    2 * 3600,
    5 * 3600,
    10 * 3600,
    14 * 3600,
    20 * 3600,
    24 * 3600,
)
"""Before each try, counted from the end of the one before."""

JITTER: Final = 0.1
MOST_WAIT_SECONDS: Final = 86_400
_WITH_RETRY_AFTER: Final = frozenset({429, 502, 503, 504})
_GONE: Final = 410
_OK: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)


class DeliveryState(StrEnum):
    """What has become of a delivery; the last three are final until it is sent again."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one try.

    Attributes:
        status: HTTP status; None without an answer.
        error: stable word for what went wrong, empty for an answer that was read to its end.
        detail: one sentence for people.
        address: the address dialled, empty for none.
        retry_after: the header as it came.
    """

    duration_ms: int
    status: int | None = None
    error: str = ""
    detail: str = ""
    address: str = ""
    response_head: str = ""
    retry_after: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the receiver has the event: a whole answer with a status of 200 to 299."""
        return not self.error and self.status in _OK

    @property
    def problem(self) -> str:
        """The stable word for what went wrong, the status included; empty for a success."""
        if self.error or self.is_success:
            return self.error
        return "redirect" if self.status in _REDIRECT else "status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of the delivery and its endpoint.

    Attributes:
        delay_seconds: until the next try; 0 where there is none.
        is_gone: the receiver wants nothing any more: its endpoint is disabled.
    """

    state: DeliveryState
    delay_seconds: float = 0.0
    is_gone: bool = False


def decide(outcome: Outcome, *, tries: int, event_type: str, now: float) -> Verdict:
    """Say what follows from a try.

    Args:
        tries: made since the delivery was last granted its tries, this one included.
        now: Unix seconds, for a `Retry-After` that is a date.
    """
    if outcome.is_success:
        return Verdict(state=DeliveryState.DELIVERED)
    if outcome.status == _GONE:
        return Verdict(state=DeliveryState.FAILED, is_gone=True)
    if tries >= len(DELAYS_SECONDS) or event_type == TEST_EVENT:
        return Verdict(state=DeliveryState.FAILED)
    delay = DELAYS_SECONDS[tries] * (1 + random.random() * JITTER)  # noqa: S311 - jitter
    if outcome.status in _WITH_RETRY_AFTER:
        delay = max(delay, retry_after_seconds(outcome.retry_after, now=now))
    return Verdict(state=DeliveryState.PENDING, delay_seconds=delay)


def retry_after_seconds(text: str, *, now: float) -> float:
    """Read a `Retry-After` of seconds or a date: 0 to a day, 0 where it is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:12]), MOST_WAIT_SECONDS))
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(at - now, 0.0), float(MOST_WAIT_SECONDS))
