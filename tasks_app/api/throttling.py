"""How often a key may call: a sliding window per API key, in Redis for all web processes.

Redis is a cache here: when it does not answer in time, this process counts alone and tries Redis
again after `RETRY_REDIS_SECONDS`. Every answer carries `RateLimit` and `RateLimit-Policy`.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, cast

import limits
import redis
from django.conf import settings
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from typing_extensions import override

from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.errors import RateLimited
from tasks_app.services.keys import Principal
from tasks_app.telemetry import logger

RETRY_REDIS_SECONDS: Final = 5.0
REDIS_TIMEOUT_SECONDS: Final = 0.5
BLOCK_MOST: Final = 50
BLOCK_SECONDS: Final = 1.0
BLOCKS_MOST: Final = 10_000
_log = logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a key has left.

    Attributes:
        is_granted: whether this request is within the limit.
        limit: requests per window.
        window_seconds: length of the window.
        remaining: requests left in it.
        reset_seconds: whole seconds until some of it is given back, at least 1.
    """

    is_granted: bool
    limit: int
    window_seconds: int
    remaining: int
    reset_seconds: int

    def headers(self) -> dict[str, str]:
        """Give the fields of draft-ietf-httpapi-ratelimit-headers."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={self.window_seconds}',
            "RateLimit": f'"default";r={self.remaining};t={self.reset_seconds}',
        }


class RequestLimiter:
    """Counts requests per name in Redis, or in this process while Redis is away. Thread-safe."""

    def __init__(self, redis_url: str) -> None:
        pool = redis.ConnectionPool.from_url(
            redis_url.split(";", maxsplit=1)[0].strip(),
            socket_timeout=REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        storage = RedisStorage("redis://", connection_pool=pool, key_prefix="taskmill-limit")
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._alone = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._alone_until = 0.0
        self._blocks: dict[str, _Block] = {}
        self._lock = threading.Lock()

    def hit(self, name: str, rate: limits.RateLimitItem) -> Allowance:
        """Count one request of `name` against `rate`.

        Requests are taken from the shared window in blocks of a hundredth of the limit, at most
        `BLOCK_MOST`, and handed out here for a second: the limit is never exceeded, and most
        requests ask nobody.
        """
        with self._lock:
            block = self._blocks.get(name)
            if block is not None and block.take(rate, monotonic()):
                return block.allowance()
        block = self._reserve(name, rate)
        with self._lock:
            if len(self._blocks) >= BLOCKS_MOST:
                self._blocks.clear()
            self._blocks[name] = block
        return block.allowance()

    def forget(self, name: str, rate: limits.RateLimitItem) -> None:
        """Forget the requests of `name`."""
        self._alone.clear(rate, name)
        try:
            self._shared.clear(rate, name)
        except redis.RedisError as error:
            _log.warning("requests are forgotten in this process alone", error=str(error))

    def _reserve(self, name: str, rate: limits.RateLimitItem) -> _Block:
        if monotonic() >= self._alone_until:
            try:
                return _reserved(self._shared, name, rate)
            except redis.RedisError as error:
                self._alone_until = monotonic() + RETRY_REDIS_SECONDS
                _log.warning("request limits are counted per process", error=str(error))
        return _reserved(self._alone, name, rate)


@dataclass(slots=True, kw_only=True)
class _Block:
    """Requests of one name taken from the window and not handed out yet."""

    rate: limits.RateLimitItem
    is_granted: bool
    left: int
    beyond: int
    reset_at: float
    ends_at: float

    def take(self, rate: limits.RateLimitItem, now: float) -> bool:
        if self.left <= 0 or now >= self.ends_at or rate != self.rate:
            return False
        self.left -= 1
        return True

    def allowance(self) -> Allowance:
        return Allowance(
            is_granted=self.is_granted,
            limit=self.rate.amount,
            window_seconds=self.rate.get_expiry(),
            remaining=self.left + self.beyond if self.is_granted else 0,
            reset_seconds=max(1, math.ceil(self.reset_at - monotonic())),
        )


def _reserved(
    limiter: SlidingWindowCounterRateLimiter, name: str, rate: limits.RateLimitItem
) -> _Block:
    size = max(1, min(BLOCK_MOST, rate.amount // 100))
    is_granted = limiter.hit(rate, name, cost=size)
    if not is_granted and size > 1:
        size = 1
        is_granted = limiter.hit(rate, name)
    stats = limiter.get_window_stats(rate, name)
    seconds = stats.reset_time - time.time()  # noqa: TID251 - undoes the library's own time.time()
    return _Block(
        rate=rate,
        is_granted=is_granted,
        left=size - 1 if is_granted else 0,
        beyond=stats.remaining,
        reset_at=monotonic() + seconds,
        ends_at=monotonic() + BLOCK_SECONDS,
    )


@cache
def request_limiter() -> RequestLimiter:
    """Give this process's limiter."""
    return RequestLimiter(settings.REDIS_URL)


@lru_cache(maxsize=1000)
def parse_rate(text: str) -> limits.RateLimitItem | None:
    """Read `N/second|minute|hour|day`; None for an empty text.

    Raises:
        ValueError: the text is no rate.
    """
    return limits.parse(text) if text else None


class ApiKeyThrottle(BaseThrottle):
    """Applies the key's own limit, or the installation's."""

    @override
    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request and note what is left for the answer's headers.

        Raises:
            RateLimited: the window is used up; `retry_after` says for how many seconds.
        """
        principal = cast("Principal | None", request.auth)
        rate = parse_rate(principal.rate_limit or conf().rate_limit) if principal else None
        if principal is None or rate is None:
            return True
        allowance = request_limiter().hit(principal.key_id, rate)
        view.allowance = allowance
        if not allowance.is_granted:
            raise RateLimited(retry_after=allowance.reset_seconds)
        return True
