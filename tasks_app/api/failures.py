"""Failed authentications per client address: beyond a limit, an address has to wait.

Counted in this process alone, which bounds what a flood of bad tokens costs: it is refused before
the database is asked. Keys that have worked here pass all the same, so that nobody who shares an
address with the flood (a proxy, an office) is shut out.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from typing import Final

from tasks_app.clock import monotonic
from tasks_app.errors import NotAuthenticated, RateLimited
from tasks_app.services.keys import Principal, digest_of, find_caller

FAILURES_MOST: Final = 30
WINDOW_SECONDS: Final = 60.0
ADDRESSES_MOST: Final = 10_000
KEYS_MOST: Final = 10_000
_SITE_BITS: Final = 64


class FailureCounter:
    """Counts failures per address in windows of `WINDOW_SECONDS`. Thread-safe, bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[float, int]] = {}

    def seconds_to_wait(self, address: str) -> int:
        """Give how long an address has to wait; 0 where it need not."""
        if not self._windows:
            return 0
        ends_at, count = self._windows.get(site_of(address), (0.0, 0))
        left = ends_at - monotonic()
        return math.ceil(left) if count >= FAILURES_MOST and left > 0 else 0

    def count(self, address: str) -> None:
        """Note a failure."""
        site, now = site_of(address), monotonic()
        with self._lock:
            ends_at, count = self._windows.pop(site, (0.0, 0))
            if ends_at <= now:
                ends_at, count = now + WINDOW_SECONDS, 0
            self._windows[site] = (ends_at, count + 1)
            if len(self._windows) > ADDRESSES_MOST:
                del self._windows[next(iter(self._windows))]

    def forget(self) -> None:
        """Forget all failures."""
        with self._lock:
            self._windows.clear()


failures: Final = FailureCounter()
_worked: dict[str, None] = {}


def authenticated(token: str, address: str) -> Principal:
    """Give the principal of a token that came from an address.

    Raises:
        NotAuthenticated: no such key is in force; counted.
        RateLimited: too many failures came from the address; `retry_after` says for how long.
    """
    seconds = failures.seconds_to_wait(address)
    if seconds and digest_of(token) not in _worked:
        raise RateLimited(
            "too many failed authentications from this address; wait", retry_after=seconds
        )
    try:
        principal = find_caller(token)
    except NotAuthenticated:
        failures.count(address)
        raise
    _remember(token)
    return principal


def _remember(token: str) -> None:
    digest = digest_of(token)
    if digest in _worked:
        return
    if len(_worked) >= KEYS_MOST:
        _worked.clear()
    _worked[digest] = None


def site_of(address: str) -> str:
    """Give what is counted: an IPv4 address, or the network that one IPv6 client owns."""
    if ":" not in address:
        return address
    try:
        network = ipaddress.ip_network((address.partition("%")[0], _SITE_BITS), strict=False)
    except ValueError:
        return address
    return str(network.network_address)
