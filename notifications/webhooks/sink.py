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
from tasks_app.platform import (
    PUBLIC_EVENTS,
    FeedEvent,
    FeedSink,
    SinkWork,
    TaskFacts,
    has_own_receivers,
    task_facts,
)
from tasks_app.public import EventType

USUAL_TYPES: Final[frozenset[str]] = PUBLIC_EVENTS - {EventType.PROGRESS, EventType.LOG}
"""What an endpoint gets that names no types."""

_ENDPOINTS: Final = """
SELECT id, tenant_id, types, tags, after_sequence FROM taskmill_webhook_endpoint
WHERE tenant_id = ANY(%(tenants)s::bigint[]) AND is_enabled
"""
_ENDPOINTS_OF_TYPES: Final = """
SELECT id, tenant_id, types, tags, after_sequence FROM taskmill_webhook_endpoint
WHERE types && %(types)s::varchar[] AND is_enabled
"""
"""Of all tenants, for events of the installation."""


_HAS_ENDPOINT: Final = "SELECT EXISTS (SELECT 1 FROM taskmill_webhook_endpoint WHERE is_enabled)"


@dataclass(frozen=True, slots=True)
class _Endpoint:
    id: uuid.UUID
    tenant_id: int
    types: Sequence[str]
    tags: Sequence[str]
    after_sequence: int

    def wants(self, event: FeedEvent) -> bool:
        if event.tenant_id not in {self.tenant_id, None} or event.sequence <= self.after_sequence:
            return False
        if event.type not in (self.types or USUAL_TYPES):
            return False
        return not self.tags or not event.tags.isdisjoint(self.tags)


class WebhookSink(FeedSink):
    """Queues one delivery per event and receiver."""

    name = "webhooks"

    @override
    def is_listening(self, cursor: Cursor) -> bool:
        """Say whether there is any receiver; see `FeedSink.is_listening`.

        Asked after the end of the feed was read: a receiver that comes later is for later events.
        """
        cursor.execute(_HAS_ENDPOINT)
        return bool(cursor.fetchone()[0]) or has_own_receivers(cursor)

    @override
    def record(self, cursor: Cursor, events: Sequence[FeedEvent]) -> None:
        """Queue what these events mean; see `FeedSink.record`."""
        tenants = {event.tenant_id for event in events if event.tenant_id is not None}
        types = {event.type for event in events if event.tenant_id is None}
        endpoints = _endpoints_of(cursor, tenants, types)
        wanted = [
            (event, [one for one in endpoints[event.tenant_id] if one.wants(event)])
            for event in events
        ]
        of_interest = {
            event.task_id
            for event, some in wanted
            if event.task_id is not None and (some or event.is_final)
        }
        facts = task_facts(cursor, of_interest, most_result_bytes=MOST_RESULT_BYTES)
        queue_deliveries(cursor, list(_deliveries(wanted, facts)))


def _endpoints_of(
    cursor: Cursor, tenants: set[int], types: set[str]
) -> Mapping[int | None, list[_Endpoint]]:
    """Give the endpoints of tenants, by tenant, and under None those that name one of the types."""
    found: defaultdict[int | None, list[_Endpoint]] = defaultdict(list)
    if tenants:
        cursor.execute(_ENDPOINTS, {"tenants": sorted(tenants)})
        for row in cursor.fetchall():
            found[row[1]].append(_Endpoint(*row))
    if types:
        cursor.execute(_ENDPOINTS_OF_TYPES, {"types": sorted(types)})
        found[None] = [_Endpoint(*row) for row in cursor.fetchall()]
    return found


def _deliveries(
    wanted: Sequence[tuple[FeedEvent, Sequence[_Endpoint]]], facts: Mapping[uuid.UUID, TaskFacts]
) -> Iterator[NewDelivery]:
    for event, endpoints in wanted:
        found = None if event.task_id is None else facts.get(event.task_id)
        urls = found.webhook_urls if found is not None and event.is_final else ()
        if not endpoints and not urls:
            continue
        body = body_of(event, found)
        for endpoint in endpoints:
            yield delivery_of(event, body, tenant_id=endpoint.tenant_id, endpoint_id=endpoint.id)
        if event.tenant_id is not None:
            for url in urls:
                yield delivery_of(event, body, tenant_id=event.tenant_id, url=url)


def delivery_of(
    event: FeedEvent,
    body: str,
    *,
    tenant_id: int,
    endpoint_id: uuid.UUID | None = None,
    url: str = "",
) -> NewDelivery:
    """Give the delivery of an event to an endpoint, or to an address of its task.

    Args:
        tenant_id: the receiver's.
    """
    return NewDelivery(
        tenant_id=tenant_id,
        event=event.id,
        event_type=event.type,
        body=body,
        task_id=event.task_id,
        endpoint_id=endpoint_id,
        url=url,
    )


def make_work() -> SinkWork:
    """Build the work of the loop `webhooks`."""
    return SinkWork(WebhookSink())
