"""Ordinary Celery tasks."""

from __future__ import annotations

import time
from pathlib import Path

from celery import shared_task


@shared_task
def add(left: int, right: int) -> int:
    return left + right


@shared_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@shared_task(acks_late=True)
def wait_for_file(started: str, go: str) -> None:
    """Stay unacknowledged until a file is there."""
    Path(started).touch()
    end = time.monotonic() + 60
    while not Path(go).exists() and time.monotonic() < end:
        time.sleep(0.05)
