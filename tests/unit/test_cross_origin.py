"""Which pages may read what of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from django.conf import settings

from notifications.conf import NotificationsConf
from notifications.cross_origin import CrossOriginReads

PAGE = "https://shop.example.com"
TASK = "/api/v1/tasks/01a20309-ff4d-739c-9802-5c569beb2d00"


@pytest.fixture(autouse=True)
def listed_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "NOTIFICATIONS", NotificationsConf(allowed_origins=(PAGE,)))


def asked(path: str, origin: str = "", method: str = "GET") -> tuple[int, dict[str, str]]:
    """Give status and headers; the application behind answers 200."""
    sent: list[Mapping[str, Any]] = []

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"etag", b"7")]})
        await send({"type": "http.response.body"})

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request"}

    headers = [(b"origin", origin.encode())] if origin else []
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(CrossOriginReads(application)(scope, receive, send))
    assert [one["type"] for one in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}


@pytest.mark.parametrize("path", [TASK, f"{TASK}/stream", "/api/v1/events/stream"])
def test_a_listed_page_reads_a_task_and_streams(path: str) -> None:
    status, headers = asked(path, PAGE)
    assert status == 200
    assert headers["access-control-allow-origin"] == PAGE
    assert headers["vary"] == "Origin"
    assert "ETag" in headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in headers
    assert headers["etag"] == "7"


@pytest.mark.parametrize("origin", ["", "null", "https://evil.example.com", f"{PAGE}.evil.test"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_other_pages_are_allowed_nothing(origin: str, method: str) -> None:
    status, headers = asked(TASK, origin, method)
    assert status == 200
    assert headers == {"etag": "7", "vary": "Origin"}


@pytest.mark.parametrize(
    "path", ["/api/v1/tasks", "/api/v1/stats", f"{TASK}/watch-tokens", f"{TASK}/events", "/admin/"]
)
def test_a_listed_page_reads_nothing_else(path: str) -> None:
    assert asked(path, PAGE, "OPTIONS")[1] == {"etag": "7"}
    assert asked(path, PAGE)[1] == {"etag": "7"}


def test_a_preflight_lets_no_api_key_and_no_other_method_through() -> None:
    status, headers = asked(TASK, PAGE, "OPTIONS")
    assert status == 204
    assert headers["access-control-allow-methods"] == "GET"
    assert headers["access-control-allow-headers"] == "if-none-match, prefer"
