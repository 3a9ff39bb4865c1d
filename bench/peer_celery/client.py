"""The peer's producer, in a process of its own: `python -m bench.peer_celery.client MODE ...`.

Modes: `submit CLIENTS SECONDS` (`delay()` one by one in CLIENTS processes), `bulk TASKS BYTES` (one
producer; the ids go to the file `PEER_IDS`), `latency SAMPLES` (`delay().get(interval=0.001)`),
`verify TASKS BYTES` (reads the result of each of those ids). Prints one line of JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from celery.result import AsyncResult

from bench.payload import make_payload
from bench.peer_celery.app import RESULTS, app

if RESULTS == "django-db":
    import django

    django.setup()

from bench.peer_celery.tasks import echo

PAYLOAD = make_payload(0)


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


def bulk(tasks: int, payload_bytes: int) -> dict[str, Any]:
    """Publish many tasks through one producer."""
    payload = make_payload(payload_bytes)
    with app.producer_or_acquire() as producer:
        first = echo.apply_async((payload,), producer=producer)
        start = perf_counter()
        others = [echo.apply_async((payload,), producer=producer) for _ in range(tasks - 1)]
        rate = (tasks - 1) / (perf_counter() - start)
    Path(os.environ["PEER_IDS"]).write_text("\n".join(one.id for one in [first, *others]))
    return {"rate": rate}


def verify(tasks: int, payload_bytes: int) -> dict[str, Any]:
    """Read every result; the time is that of the finishes, as a start is not always kept."""
    expected = make_payload(payload_bytes)
    ids = Path(os.environ["PEER_IDS"]).read_text().split()[:tasks]
    results = [AsyncResult(one, app=app) for one in ids]
    right = sum(one.successful() and one.result == expected for one in results)
    ends = sorted(one.date_done for one in results if one.date_done is not None)
    seconds = (ends[-1] - ends[0]).total_seconds() if ends else 0.0
    return {"right": right, "seconds": max(seconds, 0.001) * tasks / max(tasks - 1, 1)}


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
    elif mode == "latency":
        found = latency(int(arguments[0]))
    else:
        found = {"bulk": bulk, "verify": verify}[mode](int(arguments[0]), int(arguments[1]))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
