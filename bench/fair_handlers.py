"""The task type of `bench.fair`; its worker loads it through TASKMILL_HANDLER_MODULES."""

from __future__ import annotations

from time import sleep
from typing import Any

from tasks_app.public import handler


@handler("bench.nap")
def nap(payload: dict[str, Any]) -> None:
    """Hold a slot for a while, as a call to another service does."""
    sleep(payload["seconds"])
