"""The loop `webhooks-send`: leases due deliveries, has them tried, and writes what came of it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from notifications.webhooks import claims
from notifications.webhooks.claims import Order
from notifications.webhooks.conf import WebhooksConf, webhooks_conf
from notifications.webhooks.lanes import Lanes
from notifications.webhooks.queueing import CHANNEL
from notifications.webhooks.sender import Sender, Sent
from notifications.webhooks.verdict import TEST_EVENT, Verdict, decide
from tasks_app.clock import monotonic
from tasks_app.platform import Round, Turn
from tasks_app.telemetry import logger

log = logger(__name__)

POLL_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.05
"""Between two looks at what is due while tries are under way."""

CLOSED_SECONDS: Final = 0.2
"""Between two looks while what is due may not be tried: its lane is closed."""

LEASE_MARGIN_SECONDS: Final = 15.0
PRUNE_SECONDS: Final = 60.0
STOP_GRACE_SECONDS: Final = 3.0


class SendWork:
    """The `Work` that sends."""

    name = "webhooks-send"
    channels: tuple[str, ...] = (CHANNEL,)

    def __init__(self, settings: WebhooksConf) -> None:
        self._settings = settings
        self._sender = Sender(
            total_seconds=settings.total_seconds, concurrency=settings.concurrency
        )
        self._lanes = self._new_lanes()
        self._prune_at = 0.0

    def run_once(self, turn: Turn) -> Round:
        """Report what has ended, then begin what is due; see `Work.run_once`."""
        counts: Counter[str] = Counter()
        if self._lanes.in_flight:
            for sent in self._sender.outcomes(wait_seconds=LOOK_SECONDS):
                counts[self._report(turn.connection, sent)] += 1
        if monotonic() >= self._prune_at:
            counts["pruned"] = self._prune(turn)
        orders = self._claim(turn)
        for order in orders:
            self._sender.send(order)
        counts["begun"] = len(orders)
        return Round(counts=counts, wait_seconds=self._wait(turn))

    def _claim(self, turn: Turn) -> list[Order]:
        cursor: Any = turn.connection.cursor()
        room = self._settings.concurrency - self._lanes.in_flight
        if room <= 0 or turn.stop.is_set():
            return []
        due = claims.seconds_until_due(cursor)
        if due is None or due > 0:
            return []
        now = monotonic()
        found = claims.find_candidates(
            cursor,
            full=self._lanes.full(now),
            most_per_lane=self._settings.receiver_concurrency,
            most=room,
        )
        chosen = self._lanes.choose(found, now)
        if not chosen:
            return []
        lease = self._settings.total_seconds + LEASE_MARGIN_SECONDS
        with turn.connection.transaction():
            cursor = turn.connection.cursor()
            turn.leadership.fence(cursor)
            orders = claims.claim(cursor, chosen, lease_seconds=lease)
        taken = {order.id for order in orders}
        for one in chosen:
            if one.id not in taken:
                self._lanes.ended(one.lane, one.tenant_id, now, is_success=None)
        return orders

    def _wait(self, turn: Turn) -> float:
        if self._lanes.in_flight:
            return 0.0
        due = claims.seconds_until_due(turn.connection.cursor())
        return POLL_SECONDS if due is None else min(max(due, CLOSED_SECONDS), POLL_SECONDS)

    def _report(self, connection: Any, sent: Sent) -> str:
        """Write what came of a try; give the word for it."""
        order, outcome = sent.order, sent.outcome
        verdict = decide(
            outcome, tries=order.tries, event_type=order.event_type, now=float(order.now)
        )
        with connection.transaction():
            cursor = connection.cursor()
            claims.report(cursor, order, outcome, verdict)
            reason = self._judge(cursor, sent, verdict)
        self._lanes.ended(order.lane, order.tenant_id, monotonic(), is_success=outcome.is_success)
        log.info(
            "tried a webhook",
            delivery=str(order.id),
            endpoint=str(order.endpoint_id or ""),
            event_type=order.event_type,
            tries=order.tries,
            status=outcome.status,
            problem=outcome.problem,
            milliseconds=outcome.duration_ms,
            state=verdict.state.value,
        )
        if reason:
            log.warning("disabled a webhook", endpoint=str(order.endpoint_id), reason=reason)
        return verdict.state.value

    def _judge(self, cursor: Any, sent: Sent, verdict: Verdict) -> str:
        """Note an endpoint's success or failure; give why it was disabled, if it was."""
        order = sent.order
        if order.endpoint_id is None:
            return ""
        if sent.outcome.is_success:
            claims.report_success(cursor, order.endpoint_id)
            return ""
        if order.event_type == TEST_EVENT and not verdict.is_gone:
            return ""
        return claims.report_failure(
            cursor,
            order,
            is_gone=verdict.is_gone,
            disable_seconds=self._settings.disable_days * 86_400,
        )

    def _prune(self, turn: Turn) -> int:
        count = claims.prune(turn.connection.cursor(), retention_days=self._settings.retention_days)
        is_full = count >= claims.PRUNE_LIMIT
        self._prune_at = monotonic() + (0.0 if is_full else PRUNE_SECONDS)
        return count

    def rest(self, connection: Any) -> None:
        """Give tries a moment to end, break off the rest; see `Work.rest`.

        What is broken off becomes due when its lease ends, and is sent again with the same id.
        """
        end = monotonic() + STOP_GRACE_SECONDS
        try:
            while connection is not None and self._lanes.in_flight and monotonic() < end:
                for sent in self._sender.outcomes(wait_seconds=LOOK_SECONDS):
                    self._report(connection, sent)
        finally:
            self._sender.close()
            self._lanes = self._new_lanes()

    def _new_lanes(self) -> Lanes:
        settings = self._settings
        return Lanes(most=settings.concurrency, most_per_lane=settings.receiver_concurrency)


def make_work() -> SendWork:
    """Build the work of this installation."""
    return SendWork(webhooks_conf())
