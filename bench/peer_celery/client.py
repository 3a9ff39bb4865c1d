"""The peer's producer, in a process of its own: `python -m bench.peer_celery.client MODE ...`.

Modes: `submit CLIENTS SECONDS` (`delay()` one by one in CLIENTS processes), `bulk TASKS` (one
producer), `latency SAMPLES` (`delay().get(interval=0.001)`). Prints one line of JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from time import perf_counter
from typing import Any

import django

from bench.peer_celery.app import app

django.setup()

from bench.peer_celery.tasks import echo  # noqa: E402 - needs Django's settings

PAYLOAD = {"message": "hello", "number": 42}


def submit(clients: int, seconds: float) -> dict[str, Any]:
    """Call `delay()` one after another in each of several processes for some seconds."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(clients)
    counts = context.Queue()
    processes = [
        context.Process(target=_submit, args=(barrier, counts, seconds)) for _ in range(clients)
    ]
    for process in processes:
        process.start()
    found = [counts.get() for _ in processes]
    for process in processes:
        process.join()
    return {"rate": sum(count / elapsed for count, elapsed in found)}


def _submit(barrier: Any, counts: Any, seconds: float) -> None:
    echo.delay(PAYLOAD)
    barrier.wait()
    start, count = perf_counter(), 0
    while perf_counter() - start < seconds:
        echo.delay(PAYLOAD)
        count += 1
    counts.put((count, perf_counter() - start))


def bulk(tasks: int) -> dict[str, Any]:
    """Publish many tasks through one producer."""
    with app.producer_or_acquire() as producer:
        echo.apply_async((PAYLOAD,), producer=producer)
        start = perf_counter()
        for _ in range(tasks - 1):
            echo.apply_async((PAYLOAD,), producer=producer)
        return {"rate": (tasks - 1) / (perf_counter() - start)}


def latency(samples: int) -> dict[str, Any]:
    """Submit and wait for the result, one task after another; gives milliseconds."""
    for _ in range(5):
        echo.delay(PAYLOAD).get(interval=0.001, timeout=90)
    times = []
    for _ in range(samples):
        start = perf_counter()
        answer = echo.delay(PAYLOAD).get(interval=0.001, timeout=30)
        times.append((perf_counter() - start) * 1000)
        if answer != PAYLOAD:
            raise SystemExit(f"wrong answer: {answer!r}")
    return {"milliseconds": times}


def main(mode: str, *arguments: str) -> None:
    """Run a mode and print what it found."""
    if mode == "submit":
        found = submit(int(arguments[0]), float(arguments[1]))
    elif mode == "bulk":
        found = bulk(int(arguments[0]))
    else:
        found = latency(int(arguments[0]))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
