"""The peer's one task, doing what `demo.echo` does."""

from __future__ import annotations

from typing import Any

from bench.peer_celery.app import app


@app.task(name="peer.echo")
def echo(payload: dict[str, Any]) -> dict[str, Any]:
    """Give the payload back."""
    return payload
