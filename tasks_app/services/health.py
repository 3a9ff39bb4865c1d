"""Is every part there? Asked by probes: kept for `KEEP_SECONDS`, without address or secret.

Apps declare parts of their own, see `health_parts`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import kombu
import psycopg
import redis
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from kombu.exceptions import KombuError
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks_app.clock import monotonic
from tasks_app.db import connection_parameters
from tasks_app.engine_loops import engine_loops
from tasks_app.selectors.platform import loops_led, workers_known
from tasks_app.selectors.serving import NAMES_SHOWN, unserved_queues
from tasks_app.services.health_parts import HealthPart, Part, declared_health_parts

KEEP_SECONDS: Final = 2.0
TIMEOUT_SECONDS: Final = 1


_kept: dict[str, tuple[float, dict[str, Part]]] = {}
_lock = threading.Lock()


def check_health() -> dict[str, Part]:
    """Give the health of `database`, `broker`, `cache`, `engine`, `workers` and what apps declared.

    Concurrency: one check at a time per process; others are handed its answer.
    """
    with _lock:
        entry = _kept.get("all")
        if entry is not None and entry[0] > monotonic():
            return entry[1]
        database = _timed(check_database)
        parts = {"database": database}
        for name, check in _CHECKS.items():
            parts[name] = _timed(check) if database.is_ok or name in _APART else _UNKNOWN
        for part in declared_health_parts():
            parts[part.name] = _timed(partial(_asked, part)) if database.is_ok else _UNKNOWN
        _kept["all"] = (monotonic() + KEEP_SECONDS, parts)
        return parts


def forget_health() -> None:
    """Make the next call look again."""
    with _lock:
        _kept.clear()


def check_database() -> Part:
    """Ask the database for its clock, past the pool: a dead server is known at once."""
    try:
        with psycopg.connect(**connection_parameters(), autocommit=True) as direct:
            direct.execute("SELECT taskmill_now()")
    except psycopg.Error:
        return Part(is_ok=False, detail="the database does not answer")
    return Part(is_ok=True)


def _asked(part: HealthPart) -> Part:
    try:
        return part.check()
    except DatabaseError:
        return _UNKNOWN


def _timed(check: Callable[[], Part]) -> Part:
    begun = monotonic()
    part = check()
    spent = round((monotonic() - begun) * 1000, 1)
    return Part(is_ok=part.is_ok, detail=part.detail, facts=part.facts, milliseconds=spent)


def _check_broker() -> Part:
    options: dict[str, Any] = dict(settings.CELERY_BROKER_TRANSPORT_OPTIONS)
    options |= {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
    try:
        with kombu.Connection(
            settings.BROKER_URL, connect_timeout=TIMEOUT_SECONDS, transport_options=options
        ) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=TIMEOUT_SECONDS)
    except (KombuError, OSError, redis.RedisError):
        return Part(is_ok=False, detail="the broker does not answer; submissions are kept")
    return Part(is_ok=True)


def _check_cache() -> Part:
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL.split(";")[0],
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            client.ping()
    except redis.RedisError:
        return Part(is_ok=False, detail="the cache does not answer; limits count per process")
    return Part(is_ok=True)


def _check_engine() -> Part:
    try:
        alive = {row["loop"] for row in loops_led() if row["is_alive"]}
    except DatabaseError:
        return _UNKNOWN
    missing = [loop for loop in engine_loops() if loop not in alive]
    if missing:
        return Part(is_ok=False, detail=f"no leader for {', '.join(missing)}")
    return Part(is_ok=True, facts={"loops": sorted(alive)})


def _check_workers() -> Part:
    """Look for workers; a queue that none serves is named, and does not make the part unwell:
    whoever may submit chooses names of queues.
    """
    try:
        online = [row for row in workers_known() if row["status"] == "online"]
        with connection.cursor() as cursor:
            unserved = unserved_queues(cursor)
    except DatabaseError:
        return _UNKNOWN
    facts = {
        "online": len(online),
        "slots": sum(row["slots"] for row in online),
        "busy": sum(row["busy"] for row in online),
        "queues": sorted({queue for row in online for queue in row["queues"]}),
        "unserved": unserved[:NAMES_SHOWN],
    }
    detail = f"tasks wait and no worker serves {', '.join(unserved[:3])}" if unserved else ""
    if not online:
        detail = "no worker is online; tasks wait"
    return Part(is_ok=bool(online), detail=detail, facts=facts)


_UNKNOWN: Final = Part(is_ok=False, detail="unknown without the database")
_APART: Final = frozenset({"broker", "cache"})
_CHECKS: Final[dict[str, Callable[[], Part]]] = {
    "broker": _check_broker,
    "cache": _check_cache,
    "engine": _check_engine,
    "workers": _check_workers,
}
