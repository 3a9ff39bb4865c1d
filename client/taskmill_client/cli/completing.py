"""What a shell may complete: task types, queues, ids of recent tasks. Asked for once a minute.

A completion never shows an error and never takes long: what cannot be had is not completed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from taskmill_client import Client, TaskmillError
from taskmill_client.cli.faults import Refusal
from taskmill_client.cli.profiles import directory, write_privately
from taskmill_client.cli.session import platform

FRESH_SECONDS: Final = 60
_TIMEOUT_SECONDS: Final = 2.0
Words = list[tuple[str, str]]


def complete_types(incomplete: str) -> Words:
    """Complete a task type."""
    return _matching("types", incomplete, _types)


def complete_queues(incomplete: str) -> Words:
    """Complete a queue."""
    return _matching("queues", incomplete, _queues)


def complete_tasks(incomplete: str) -> Words:
    """Complete the id of a recent task."""
    return _matching("tasks", incomplete, _tasks)


def complete_schedules(incomplete: str) -> Words:
    """Complete the id of a schedule."""
    return _matching("schedules", incomplete, _schedules)


def _types(client: Client) -> Iterable[tuple[str, str]]:
    return ((one["type"], one["description"]) for one in _page(client, "/task-types"))


def _queues(client: Client) -> Iterable[tuple[str, str]]:
    return ((one["name"], one.get("description", "")) for one in _page(client, "/queues"))


def _tasks(client: Client) -> Iterable[tuple[str, str]]:
    found = _page(client, "/tasks")
    return ((one["id"], f"{one['type']} {one['status']}") for one in found)


def _schedules(client: Client) -> Iterable[tuple[str, str]]:
    return ((one["id"], one.get("key") or one["type"]) for one in _page(client, "/schedules"))


def _page(client: Client, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.request("GET", path)["results"]
    return found


def _matching(
    kind: str, incomplete: str, ask: Callable[[Client], Iterable[tuple[str, str]]]
) -> Words:
    try:
        words = _recent(kind, ask)
    except (TaskmillError, Refusal, OSError, ValueError, KeyError, TypeError):
        return []
    return [(word, text) for word, text in words if word.startswith(incomplete)]


def _recent(kind: str, ask: Callable[[Client], Iterable[tuple[str, str]]]) -> Words:
    chosen = platform()
    of_whom = hashlib.sha256(f"{chosen.url} {chosen.token}".encode()).hexdigest()[:16]
    path = directory("CACHE", ".cache") / f"{kind}-{of_whom}.json"
    if path.exists() and 0 <= time.time() - path.stat().st_mtime < FRESH_SECONDS:  # noqa: TID251 - age of a file
        return [(word, text) for word, text in json.loads(path.read_text(encoding="utf-8"))]
    with Client(chosen.url, chosen.token, timeout=_TIMEOUT_SECONDS, retries=0) as client:
        words = [(word, text.partition("\n")[0]) for word, text in ask(client)]
    write_privately(path, json.dumps(words))
    return words
