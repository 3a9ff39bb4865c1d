"""Pages of long lists: keyset cursors that are opaque, signed, and bound to their tenant."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import orjson
from django.utils.crypto import salted_hmac
from rest_framework.request import Request

from tasks_app.api.operation import Parameter
from tasks_app.api.renderers import to_json
from tasks_app.errors import ValidationFailed

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAC_BYTES: Final = 12
MAX_TEXT: Final = 200
MAX_DIGITS: Final = 19
TEXT: Final = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
PAGE_PARAMETERS: Final = (
    Parameter(
        name="limit",
        description="Rows on a page.",
        schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    Parameter(
        name="cursor",
        description="Where the page begins; from `next` or `previous`.",
        schema={"type": "string"},
    ),
)
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which page is asked for.

    Attributes:
        limit: rows on it, 1 to 200. Fetch `limit + 1`, so that it is known whether more follow.
        position: sort values of the row that the page begins after; None for the first page.
        is_backward: the page before `position` is meant: fetch in reverse order.
    """

    limit: int
    position: tuple[Any, ...] | None = None
    is_backward: bool = False


def encode_cursor(of: str, position: Sequence[Any], *, is_backward: bool) -> str:
    """Give the opaque text of a position in the list `of`: text, numbers, times or UUIDs."""
    body = to_json([1 if is_backward else 0, *position])
    return base64.urlsafe_b64encode(_mac(of, body) + body).decode().rstrip("=")


def decode_cursor(of: str, cursor: str) -> tuple[bool, tuple[Any, ...]]:
    """Give `(is_backward, position)`; times and UUIDs come back as text.

    Raises:
        ValidationFailed: damaged, forged, of another tenant or of another list.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raw = b""
    mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
    if not body or not hmac.compare_digest(mac, _mac(of, body)):
        raise invalid_parameter("cursor", "this cursor is not one that we gave you")
    backward, *position = orjson.loads(body)
    return bool(backward), tuple(position)


def read_page_request(request: Request, tenant_id: int) -> PageRequest:
    """Read `limit` and `cursor` of the query.

    Raises:
        ValidationFailed: one of them is wrong.
    """
    limit = read_number(request, "limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
    cursor = request.query_params.get("cursor")
    if not cursor:
        return PageRequest(limit=limit)
    is_backward, position = decode_cursor(_list_of(request, tenant_id), cursor)
    return PageRequest(limit=limit, position=position, is_backward=is_backward)


def page_of(
    request: Request,
    tenant_id: int,
    page: PageRequest,
    rows: Sequence[Row],
    position_of: Callable[[Row], Sequence[Any]],
    *,
    has_more: bool | None = None,
) -> tuple[list[Row], Mapping[str, str | None]]:
    """Cut the fetched rows to the page.

    Args:
        rows: up to `page.limit + 1` rows in the order they were fetched (reversed where
            `page.is_backward`).
        position_of: the sort values of a row.
        has_more: whether rows follow in the order they were fetched; None where one row more than
            `page.limit` says so.

    Returns:
        The rows in list order, and `{"next": url | None, "previous": url | None}`.
    """
    if has_more is None:
        has_more = len(rows) > page.limit
    shown = list(rows[: page.limit])
    if page.is_backward:
        shown.reverse()
    has_next = page.is_backward or has_more
    has_previous = has_more if page.is_backward else page.position is not None

    of = _list_of(request, tenant_id)

    def link(row: Row, *, is_backward: bool) -> str:
        query = request.query_params.copy()
        query["cursor"] = encode_cursor(of, position_of(row), is_backward=is_backward)
        return request.build_absolute_uri(
            f"{request.path}?{urlencode(list(query.lists()), doseq=True)}"
        )

    return shown, {
        "next": link(shown[-1], is_backward=False) if shown and has_next else None,
        "previous": link(shown[0], is_backward=True) if shown and has_previous else None,
    }


def read_number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """Read a whole number of the query.

    Raises:
        ValidationFailed: not a whole number, or out of range.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    is_whole = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    if not (is_whole and least <= int(text) <= most):
        raise invalid_parameter(name, f"{name} must be a whole number from {least} to {most}")
    return int(text)


def read_text(request: Request, name: str) -> str | None:
    """Read a text of the query, None where it is missing.

    Raises:
        ValidationFailed: empty, longer than 200 characters, or with a NUL character.
    """
    text = request.query_params.get(name)
    return None if text is None else checked_text(name, text)


def checked_text(name: str, text: str) -> str:
    """Give a parameter's text back.

    Raises:
        ValidationFailed: as `read_text`.
    """
    if not 1 <= len(text) <= MAX_TEXT or "\x00" in text:
        raise invalid_parameter(name, f"{name} must have 1 to {MAX_TEXT} characters")
    return text


def invalid_parameter(name: str, detail: str, code: str = "invalid") -> ValidationFailed:
    """Give the error of a wrong query parameter; its pointer is `/query/<name>`."""
    return ValidationFailed(
        detail, errors=[{"pointer": f"/query/{name}", "code": code, "detail": detail}]
    )


def _list_of(request: Request, tenant_id: int) -> str:
    return f"{tenant_id}.{request.path}"


def _mac(of: str, body: bytes) -> bytes:
    return salted_hmac(f"taskmill.cursor.{of}", body, algorithm="sha256").digest()[:MAC_BYTES]
