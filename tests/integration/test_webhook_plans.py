"""Every look at the tables of webhooks reads an index, at 100,000 deliveries in 300 lanes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from notifications.models import WebhookDelivery
from notifications.webhooks import claims, selectors, sink
from tasks_app.selectors import receivers
from tests import query_plans
from tests.factories import make_tenant
from tests.many_tasks import insert_many_tasks

pytestmark = pytest.mark.django_db
ROWS = 100_000
LARGE = ("taskmill_webhook_delivery", "taskmill_webhook_endpoint", "taskmill_task")
_FILL = """
INSERT INTO taskmill_webhook_delivery (id, tenant_id, endpoint_id, task_id, url, receiver, lane,
    event, event_type, body, state, tries, tries_base, epoch, next_try_at, created_at, finished_at,
    last_error)
SELECT md5(n::text)::uuid, %(tenant)s, md5('e' || n %% 300)::uuid, md5('t' || n)::uuid, '',
    md5('e' || n %% 300)::uuid::text,
    CASE WHEN n %% 2 = 0 THEN 'endpoint.x' ELSE 'endpoint.' || md5('e' || n %% 300) END,
    'event.' || n,
    'task.created', '{}', CASE WHEN is_pending THEN 'pending' ELSE 'delivered' END, 1, 0, 1,
    now() + (n %% 1000 - 500) * interval '1 s', now(),
    CASE WHEN NOT is_pending THEN now() - n * interval '1 min' END, ''
FROM (SELECT n, n %% 5 = 0 OR n %% 300 = 7 AS is_pending FROM generate_series(1, %(rows)s) n) s
"""


@pytest.fixture(scope="module")
def filled(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        tenant = make_tenant("plans-webhooks")
        with transaction.atomic():
            insert_many_tasks(5_000)  # of an empty table every page is read, which is none
        with connection.cursor() as cursor:
            cursor.execute(_FILL, {"tenant": tenant.id, "rows": ROWS})
            cursor.execute(
                "INSERT INTO taskmill_webhook_endpoint (id, tenant_id, url, description, types,"
                " tags, secret, previous_secret, is_enabled, disabled_reason, failures,"
                " after_sequence, created_at, updated_at) SELECT gen_random_uuid(), %(tenant)s,"
                " '', '', CASE WHEN n %% 500 = 0 THEN ARRAY['worker.lost'] ELSE"
                " ARRAY['task.failed'] END, '{}', '', '', true, '', 0, 0, now(), now()"
                " FROM generate_series(1, 20000) n",
                {"tenant": tenant.id},
            )
            cursor.execute("VACUUM ANALYZE taskmill_webhook_endpoint")
            cursor.execute("VACUUM ANALYZE taskmill_webhook_delivery")
        yield
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE taskmill_webhook_delivery, taskmill_tenant CASCADE")


def check_plan(query: str, values: Any, *, most: int) -> None:
    query_plans.check_plan(query, values, most=most, large=LARGE)


FULL = ["endpoint.x"]
"""A lane with ten thousand deliveries, which cost the others nothing."""

QUERIES: dict[str, tuple[str, Any, int]] = {
    "candidates": (
        claims.CANDIDATES, {"full": FULL, "most_per_lane": 8, "most": 200}, 6_000,
    ),
    "next due": (claims.NEXT_DUE, {}, 10),
    "claim": (claims.CLAIM, {"ids": [uuid.UUID(int=1)], "lease": 30.0}, 200),
    "stop all": (claims.STOP_ALL, {"lane": "endpoint.none"}, 50),
    "prune": (claims.PRUNE, {"age": 86_400 * 60.0, "limit": 500}, 8_000),
    "queue": (selectors.QUEUE, {"most": 1_000}, 500),
    "endpoints of the installation's events": (
        sink._ENDPOINTS_OF_TYPES, {"types": ["worker.lost"]}, 500,
    ),
    "tasks with receivers of their own": (receivers._HAS_OWN, {}, 10),
    "facts": (receivers._FACTS, {"ids": [uuid.UUID(int=1)] * 200, "most": 16_384}, 1_000),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_every_look_of_the_loops_reads_an_index(filled: None, name: str) -> None:
    query, values, most = QUERIES[name]
    check_plan(query, values, most=most)


@pytest.mark.parametrize("is_backward", [True, False])
def test_a_page_of_deliveries_reads_an_index(filled: None, is_backward: bool) -> None:
    endpoint = WebhookDelivery.objects.values_list("endpoint_id", flat=True)[0]
    rows = WebhookDelivery.objects.filter(endpoint_id=endpoint)
    page = selectors._paged(rows, uuid.UUID(int=1 << 127), is_backward=is_backward)[:51]
    query, values = page.query.sql_with_params()
    check_plan(query, values, most=200)
