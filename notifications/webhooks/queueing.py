"""Puts deliveries into their table: each event once per receiver, however often it is tried."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from notifications.models.webhooks import new_id
from notifications.sealing import seal
from notifications.signing import new_secret
from tasks_app.db import Cursor

CHANNEL: Final = "taskmill_webhook"
_QUEUE: Final = """
WITH queued AS (
    INSERT INTO taskmill_webhook_delivery (id, tenant_id, endpoint_id, task_id, url, receiver, lane,
        event, event_type, body, state, tries, tries_base, epoch, next_try_at, created_at,
        last_error)
    SELECT id, tenant, endpoint, task, url, receiver, lane, event, event_type, body, 'pending', 0,
        0, 0, taskmill_now(), taskmill_now(), ''
    FROM unnest(%(id)s::uuid[], %(tenant)s::bigint[], %(endpoint)s::uuid[], %(task)s::uuid[],
        %(url)s::text[], %(receiver)s::text[], %(lane)s::text[], %(event)s::text[],
        %(event_type)s::text[], %(body)s::text[])
        AS q(id, tenant, endpoint, task, url, receiver, lane, event, event_type, body)
    ON CONFLICT (receiver, event) DO NOTHING RETURNING id
)
SELECT count(*), pg_notify('taskmill_webhook', '') FROM queued
"""
_HAVE_KEY: Final = """
INSERT INTO taskmill_webhook_task_secret (tenant_id, secret, previous_secret, created_at)
SELECT tenant, secret, '', taskmill_now()
FROM unnest(%(tenants)s::bigint[], %(secrets)s::text[]) AS q(tenant, secret)
ON CONFLICT (tenant_id) DO NOTHING
"""
_WITHOUT_KEY: Final = """
SELECT id FROM unnest(%(tenants)s::bigint[]) AS q(id)
WHERE NOT EXISTS (SELECT 1 FROM taskmill_webhook_task_secret s WHERE s.tenant_id = q.id)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """One event for one receiver.

    Attributes:
        endpoint_id: the endpoint, or None where `url` is given.
        event: the CloudEvents id.
    """

    tenant_id: int
    event: str
    event_type: str
    body: str
    task_id: uuid.UUID | None = None
    endpoint_id: uuid.UUID | None = None
    url: str = ""

    @property
    def receiver(self) -> str:
        """What may get an event once."""
        if self.endpoint_id is not None:
            return str(self.endpoint_id)
        return hashlib.sha256(self.url.encode()).hexdigest()

    @property
    def lane(self) -> str:
        """What is limited together: an endpoint, or a tenant's URLs of one origin."""
        if self.endpoint_id is not None:
            return f"endpoint.{self.endpoint_id}"
        origin = f"{self.tenant_id} {urlsplit(self.url).scheme} {urlsplit(self.url).netloc}"
        return f"origin.{hashlib.sha256(origin.encode()).hexdigest()[:40]}"


def queue_deliveries(cursor: Cursor, deliveries: Sequence[NewDelivery]) -> None:
    """Insert deliveries, due at once, and ring for the sender at commit.

    Concurrency: a receiver that has the event already gets it no second time.
    """
    if not deliveries:
        return
    have_task_secrets(cursor, {one.tenant_id for one in deliveries if one.endpoint_id is None})
    values: dict[str, list[Any]] = {
        "id": [new_id() for _ in deliveries],
        "tenant": [one.tenant_id for one in deliveries],
        "endpoint": [one.endpoint_id for one in deliveries],
        "task": [one.task_id for one in deliveries],
        **{
            name: [getattr(one, name) for one in deliveries]
            for name in ("url", "receiver", "lane", "event", "event_type", "body")
        },
    }
    cursor.execute(_QUEUE, values)


def have_task_secrets(cursor: Cursor, tenant_ids: Iterable[int]) -> None:
    """See to it that these tenants have a secret for the addresses of their tasks."""
    wanted = sorted(tenant_ids)
    if not wanted:
        return
    cursor.execute(_WITHOUT_KEY, {"tenants": wanted})
    missing = [row[0] for row in cursor.fetchall()]
    if missing:
        sealed = [seal(new_secret()) for _ in missing]
        cursor.execute(_HAVE_KEY, {"tenants": missing, "secrets": sealed})
