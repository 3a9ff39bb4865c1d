"""The demo task: submits `example` over HTTP as any client would and follows it to its end.

Runs on a thread of `manage.py up`; knows the API and nothing else of the platform.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from tasks_app.clock import monotonic
from tasks_app.errors import InfrastructureError

DEMO_TYPE: Final = "example"
FOLLOW_SECONDS: Final = 60.0
_LONG_POLL_SECONDS: Final = 5


class DemoFailed(InfrastructureError):
    """The demo task did not succeed."""

    code = "demo_failed"


class ApiClient:
    """A few calls of the HTTP API.

    Args:
        url: such as `http://127.0.0.1:8000`.
        token: bearer token.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, str]:
        """Give status, decoded body and ETag of one call.

        Raises:
            DemoFailed: there was no answer.
        """
        connection = http.client.HTTPConnection(*self._address, timeout=30.0)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {**self._headers, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None, answer.headers["ETag"] or ""
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise DemoFailed(f"{method} {path} got no answer: {error}") from error
        finally:
            connection.close()


def run_demo(client: ApiClient, on_change: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Submit the demo task and follow it by long polls.

    Args:
        client: of the running platform.
        on_change: called with the task object at the start and after each change.

    Returns:
        The task object, with status `success`.

    Raises:
        DemoFailed: refused, ended otherwise, or not done within `FOLLOW_SECONDS`.
    """
    status, task, tag = client.call("POST", "/api/v1/tasks", {"type": DEMO_TYPE, "payload": {}})
    if status not in {http.HTTPStatus.OK, http.HTTPStatus.ACCEPTED}:
        raise DemoFailed(f"the demo task was refused with {status}: {task}")
    end = monotonic() + FOLLOW_SECONDS
    pause = threading.Event()
    while not task["done"]:
        on_change(task)
        if monotonic() > end:
            raise DemoFailed(f"the demo task is still {task['state']} after {FOLLOW_SECONDS:.0f} s")
        headers = {"Prefer": f"wait={_LONG_POLL_SECONDS}", "If-None-Match": tag}
        status, found, tag = client.call("GET", f"/api/v1/tasks/{task['id']}", headers=headers)
        if status == http.HTTPStatus.OK:
            task = found
        pause.wait(0.05)
    on_change(task)
    if task["status"] != "success":
        raise DemoFailed(f"the demo task ended as {task['status']}: {task['error']}")
    return dict(task)
