"""Which pages may open a WebSocket: an exact comparison of the `Origin` header.

Browsers send it with every handshake and let no page change it. A client that sends none is no
browser and passes: it has to show a key, token or ticket all the same.
Source: RFC 6454; RFC 6455, 10.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from notifications.websocket.conf import socket_conf

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """Give the origin of a URL as a browser writes it: lower case, no default port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    port = parts.port
    is_default = port is None or port == _DEFAULT_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{shown}" + ("" if is_default else f":{port}")


def is_allowed(origins: Iterable[str]) -> bool:
    """Say whether a handshake with these `Origin` headers may go on."""
    found = list(origins)
    if not found:
        return True
    allowed = {origin_of(settings.PUBLIC_URL), *socket_conf().ws_allowed_origins}
    return len(found) == 1 and found[0] in allowed
