"""The sink `webhooks`: turns events of the feed into deliveries, in the transaction that moves its
cursor."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from notifications.webhooks.messages import MOST_RESULT_BYTES, body_of
from notifications.webhooks.queueing import NewDelivery, queue_deliveries
from tasks_app.db import Cursor
from tasks_app.platform import PUBLIC_EVENTS, FeedEvent, FeedSink, SinkWork, TaskFacts, task_facts
from tasks_app.public import EventType

USUAL_TYPES: Final[frozenset[str]] = PUBLIC_EVENTS - {EventType.PROGRESS, EventType.LOG}
"""What an endpoint gets that names no types."""

_ENDPOINTS: Final = """
SELECT id, tenant_id, types, tags, after_sequence FROM taskmill_webhook_endpoint
WHERE tenant_id = ANY(%(tenants)s::bigint[]) AND is_enabled
"""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    id: uuid.UUID
    tenant_id: int
    types: Sequence[str]
    tags: Sequence[str]
    after_sequence: int

    def wants(self, event: FeedEvent) -> bool:
        if event.sequence <= self.after_sequence:
            return False
        if event.type not in (self.types or USUAL_TYPES):
            return False
        return not self.tags or not event.tags.isdisjoint(self.tags)


class WebhookSink(FeedSink):
    """Queues one delivery per event and receiver."""

    name = "webhooks"

    @override
    def record(self, cursor: Cursor, events: Sequence[FeedEvent]) -> None:
        """Queue what these events mean; see `FeedSink.record`."""
        endpoints = _endpoints_of(cursor, {event.tenant_id for event in events})
        wanted = [
            (event, [one for one in endpoints[event.tenant_id] if one.wants(event)])
            for event in events
        ]
        of_interest = {event.task_id for event, some in wanted if some or event.is_final}
        facts = task_facts(cursor, of_interest, most_result_bytes=MOST_RESULT_BYTES)
        queue_deliveries(cursor, list(_deliveries(wanted, facts)))


def _endpoints_of(cursor: Cursor, tenants: set[int]) -> Mapping[int, list[_Endpoint]]:
    found = defaultdict(list)
    if tenants:
        cursor.execute(_ENDPOINTS, {"tenants": sorted(tenants)})
        for row in cursor.fetchall():
            found[row[1]].append(_Endpoint(*row))
    return found


def _deliveries(
    wanted: Sequence[tuple[FeedEvent, Sequence[_Endpoint]]], facts: Mapping[uuid.UUID, TaskFacts]
) -> Iterator[NewDelivery]:
    for event, endpoints in wanted:
        found = facts.get(event.task_id)
        urls = found.webhook_urls if found is not None and event.is_final else ()
        if not endpoints and not urls:
            continue
        body = body_of(event, found)
        for endpoint in endpoints:
            yield delivery_of(event, body, endpoint_id=endpoint.id)
        for url in urls:
            yield delivery_of(event, body, url=url)


def delivery_of(
    event: FeedEvent, body: str, *, endpoint_id: uuid.UUID | None = None, url: str = ""
) -> NewDelivery:
    """Give the delivery of an event to an endpoint, or to an address of its task."""
    return NewDelivery(
        tenant_id=event.tenant_id,
        event=f"{event.task_id}.{event.seq}",
        event_type=event.type,
        body=body,
        task_id=event.task_id,
        endpoint_id=endpoint_id,
        url=url,
    )


def make_work() -> SinkWork:
    """Build the work of the loop `webhooks`."""
    return SinkWork(WebhookSink())
