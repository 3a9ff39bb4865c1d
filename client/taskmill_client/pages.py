"""Long lists, page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from taskmill_client.exchange import Exchange
from taskmill_client.wire import Call, Emit, Flow, JsonObject

PAGE_ROWS: Final = 200
LINES: Final = 1000


def emit_pages(
    exchange: Exchange,
    path: str,
    filters: Mapping[str, Any],
    *,
    limit: int | None,
    make: Callable[[JsonObject], Any],
) -> Flow[None]:
    """Emit the rows of all pages, `limit` at most.

    Of the address of the next page its cursor alone is used: behind a proxy the server may not
    know by which name it was called.
    """
    left, cursor = limit, None
    while left is None or left > 0:
        rows = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
        call = Call(method="GET", path=path, query={**filters, "limit": rows, "cursor": cursor})
        page = yield from exchange.json(call)
        for row in page["results"]:
            yield Emit(make(row))
        cursor = cursor_of(page.get("next"))
        if cursor is None:
            return
        left = None if left is None else left - len(page["results"])


def cursor_of(address: str | None) -> str | None:
    """Give the cursor of a page's address; None where there is no further page."""
    found = parse_qs(urlsplit(address or "").query).get("cursor")
    return found[0] if found else None


def emit_lines(
    exchange: Exchange,
    path: str,
    filters: Mapping[str, Any],
    *,
    after: Any,
    make: Callable[[JsonObject], Any],
) -> Flow[None]:
    """Emit what a history holds after a place, to its end now."""
    while True:
        query = {**filters, "after": after, "limit": LINES}
        page = yield from exchange.json(Call(method="GET", path=path, query=query))
        for row in page["results"]:
            yield Emit(make(row))
        if len(page["results"]) < LINES:
            return
        after = page["after"]
