"""Reads what was done, as any client would: `python -m bench.http_reader PORT BYTES`.

Pages through every task of the default queue that succeeded and compares its result; of some it
reads the history too. The bearer token comes in `BENCH_TOKEN`. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from bench.http_client import BYTES_PER_REQUEST, Connection, exchange
from bench.payload import make_payload

TASKS_PER_PAGE = 200
HISTORIES = 20


def get(connection: Connection, path: str) -> Any:
    """Give what is at a path."""
    lines = (
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {os.environ['BENCH_TOKEN']}",
    )
    return json.loads(exchange(connection, "\r\n".join(lines).encode() + b"\r\n\r\n", 200))


def succeeded(connection: Connection, payload_bytes: int) -> Iterator[dict[str, Any]]:
    """Give every task of the default queue that succeeded."""
    most = BYTES_PER_REQUEST // payload_bytes if payload_bytes else TASKS_PER_PAGE
    path = f"/api/v1/tasks?queue=default&status=success&limit={min(max(most, 1), TASKS_PER_PAGE)}"
    while path:
        found = get(connection, path)
        yield from found["results"]
        path = found["next"] and found["next"][found["next"].index("/api/") :]


def has_history(connection: Connection, task_id: str) -> bool:
    """Say whether a task has its events and its one attempt."""
    events = get(connection, f"/api/v1/tasks/{task_id}/events")["results"]
    attempts = get(connection, f"/api/v1/tasks/{task_id}/attempts")["results"]
    types = [event["type"] for event in events]
    return types[0] == "task.created" and types[-1] == "task.succeeded" and len(attempts) == 1


def verify(port: int, payload_bytes: int) -> dict[str, Any]:
    """Count the tasks whose result is right, and tell from the first start to the last finish."""
    expected = make_payload(payload_bytes)
    connection = Connection(port)
    looked_at = Connection(port)
    right, starts, ends = 0, [], []
    for task in succeeded(connection, payload_bytes):
        has_all = len(ends) >= HISTORIES or has_history(looked_at, task["id"])
        right += has_all and task["result"] == expected
        starts.append(datetime.fromisoformat(task["started_at"]))
        ends.append(datetime.fromisoformat(task["finished_at"]))
    seconds = (max(ends) - min(starts)).total_seconds() if ends else 0.0
    return {"right": right, "seconds": max(seconds, 0.001)}


if __name__ == "__main__":
    print(json.dumps(verify(int(sys.argv[1]), int(sys.argv[2]))))
