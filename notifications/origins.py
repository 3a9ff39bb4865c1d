"""Which web pages may open sockets here: an exact list of origins.

Tokens authenticate; no cookie is ever read. The list keeps a page that got hold of a token from
using it out of a browser.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from notifications.conf import notifications_conf

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def is_allowed_origin(origin: str | None) -> bool:
    """Say whether a request with this `Origin` may go on.

    Args:
        origin: the header's value; None where there is none, as from programs that are no browser.
    """
    if origin is None:
        return True
    return origin in _allowed(settings.PUBLIC_URL, notifications_conf().allowed_origins)


def is_allowed_origins(origins: Iterable[str]) -> bool:
    """Say the same of all `Origin` headers of a request: more than one is no browser's."""
    found = list(origins)
    return len(found) <= 1 and is_allowed_origin(found[0] if found else None)


@lru_cache(maxsize=8)
def _allowed(public_url: str, listed: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(origin_of, (public_url, *listed)))


def origin_of(url: str) -> str:
    """Give the origin of a URL as browsers write it: lower case, without a default port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{parts.port}"
    return f"{parts.scheme}://{host}"
