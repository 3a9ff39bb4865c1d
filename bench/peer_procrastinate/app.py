"""Procrastinate's application: `procrastinate -a bench.peer_procrastinate.app.app worker`."""

from __future__ import annotations

import os
from typing import Any

from procrastinate import App, PsycopgConnector

CLIENTS_MOST = 8

app = App(
    connector=PsycopgConnector(conninfo=os.environ["PEER_DATABASE_URL"], max_size=CLIENTS_MOST)
)


@app.task(name="peer.echo", queue="peer")
async def echo(payload: dict[str, Any]) -> dict[str, Any]:
    """Give the payload back; Procrastinate keeps no result."""
    return payload
