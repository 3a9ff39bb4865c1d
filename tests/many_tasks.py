"""A full task table for tests of plans: written by SQL, analysed, in the caller's transaction."""

from __future__ import annotations

from django.db import connection

from tests.factories import make_tenant

SPAN_MILLISECONDS = 60
TENANTS = 5
_INSERT = """
INSERT INTO taskmill_task
    (id, tenant_id, type, queue, priority, state, version, event_seq, payload, metadata, tags,
     progress, progress_message, max_retry, attempt, attempt_base, epoch, rescues, interrupts,
     sweeps, hand_backs, dispatch_seq, created_at, updated_at, run_at, started_at, finished_at,
     process_timeout, lease_owner, lease_expires_at, worker, cancel_requested_by, cancel_reason,
     traceparent, submitted_by)
SELECT
    (lpad(to_hex(n.millisecond), 12, '0') || '7' || substr(md5(n.i::text), 1, 3) || '8'
        || substr(md5(n.i::text), 4, 15))::uuid,
    (%(tenants)s::bigint[])[1 + n.i %% 5], n.type,
    CASE n.i %% 10 WHEN 0 THEN 'mail' ELSE 'default' END, 0,
    n.state, 3, 3, jsonb_build_object('order', n.i, 'text', repeat('x', 300)), '{}', '{}', 100, '',
    3, 1, 0, 1, 0, 0, 0, 0, 1, n.at, n.at, n.at, n.at,
    CASE WHEN n.state IN ('success', 'failed', 'cancelled') THEN n.at END, 600,
    CASE n.state WHEN 'running' THEN 'w' END, CASE n.state WHEN 'running' THEN n.at END, 'w:1', '',
    '', '', ''
FROM (
    SELECT i, millisecond, to_timestamp(millisecond / 1000.0) AS at,
        CASE WHEN i < 500 THEN 'tests.nothing' WHEN i %% 2 = 0 THEN 'demo.echo'
             ELSE 'demo.slow' END AS type,
        CASE WHEN i < 2000 THEN 'failed' WHEN i > %(count)s - 20 THEN 'running'
             WHEN i > %(count)s - 2000 THEN 'queued' WHEN i %% 20 = 0 THEN 'cancelled'
             ELSE 'success' END AS state
    FROM (SELECT i, (extract(epoch FROM now()) * 1000)::bigint
              - (%(count)s - i) * %(span)s AS millisecond
          FROM generate_series(1, %(count)s) i) numbered
) n
"""


def insert_many_tasks(count: int) -> None:
    """Insert tasks of five tenants, one each 60 ms up to now.

    The oldest 2,000 failed and the newest are queued or running; most succeeded. The type
    `tests.nothing` is found among the oldest 500 alone: what is rare is also far from the end that
    a list begins with.
    """
    tenants = [make_tenant().pk for _ in range(TENANTS)]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(_INSERT, {"count": count, "tenants": tenants, "span": SPAN_MILLISECONDS})
        cursor.execute("ANALYZE taskmill_task, taskmill_tenant")
