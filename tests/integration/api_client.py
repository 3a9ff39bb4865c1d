"""A small client of the API for tests: Django's test client with a token and JSON."""

from __future__ import annotations

from typing import Any

import orjson
from django.test import Client


class Api:
    """Calls `/api/v1` with a bearer token; answers are Django's test responses."""

    def __init__(self, token: str) -> None:
        self._client = Client(raise_request_exception=False)
        self._token = token

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send one request; header names have underscores for hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["Authorization"] = f"Bearer {self._token}"
        url = path if path.startswith("/api") else f"/api/v1{path}"
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        extra = {} if body is None else {"data": data, "content_type": "application/json"}
        return self._client.generic(method, url, headers=sent, **extra)

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call("POST", path, body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        return self.call("PATCH", path, body, **headers)

    def delete(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call("DELETE", path, body, **headers)


def pointers(response: Any) -> list[str]:
    """Give the pointers of a problem's errors."""
    assert response.headers["Content-Type"] == "application/problem+json", response.content
    return [fault["pointer"] for fault in response.json()["errors"]]
