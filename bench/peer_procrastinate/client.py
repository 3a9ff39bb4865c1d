"""Procrastinate's producer and reader: `python -m bench.peer_procrastinate.client MODE ...`.

Modes: `submit CLIENTS SECONDS` (CLIENTS defer one by one in one process), `bulk TASKS BYTES`
(`batch_defer`, 1,000 a call), `latency SAMPLES` (the job's status is asked for every millisecond,
as no result can be waited for), `verify TASKS BYTES`. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter
from typing import Any

from bench.payload import make_payload
from bench.peer_procrastinate.app import app, echo

JOBS_PER_CALL = 1000
BYTES_PER_CALL = 20_000_000
POLL_SECONDS = 0.001
LATENCY_SECONDS = 60.0
_SPAN = """
SELECT extract(epoch FROM max(at) - min(at))::float8 AS seconds FROM procrastinate_events
WHERE type IN ('started', 'succeeded')
"""


async def submit(clients: int, seconds: float) -> dict[str, Any]:
    """Defer one after another by several clients for some seconds."""
    payload = make_payload(0)
    await echo.defer_async(payload=payload)
    start, count = perf_counter(), 0

    async def one() -> None:
        nonlocal count
        while perf_counter() - start < seconds:
            await echo.defer_async(payload=payload)
            count += 1

    await asyncio.gather(*(one() for _ in range(clients)))
    return {"rate": count / (perf_counter() - start)}


async def bulk(tasks: int, payload_bytes: int) -> dict[str, Any]:
    """Defer many at once."""
    job = {"payload": make_payload(payload_bytes)}
    most = max(1, BYTES_PER_CALL // payload_bytes) if payload_bytes else JOBS_PER_CALL
    start = perf_counter()
    for done in range(0, tasks, most):
        await echo.batch_defer_async(*[job] * min(most, tasks - done))
    return {"rate": tasks / (perf_counter() - start)}


async def latency(samples: int) -> dict[str, Any]:
    """Defer and wait until the job has succeeded, one after another; gives milliseconds."""
    times = []
    for _ in range(samples + 5):
        start = perf_counter()
        job = await echo.defer_async(payload=make_payload(0))
        while (await app.job_manager.get_job_status_async(job)).value != "succeeded":
            if perf_counter() - start > LATENCY_SECONDS:
                raise SystemExit(f"job {job} did not succeed in {LATENCY_SECONDS:.0f} s")
            await asyncio.sleep(POLL_SECONDS)
        times.append((perf_counter() - start) * 1000)
    return {"milliseconds": times[5:]}


async def verify(_tasks: int, payload_bytes: int) -> dict[str, Any]:
    """Read the state of every job; there is no result to read."""
    expected = {"payload": make_payload(payload_bytes)}
    jobs = await app.job_manager.list_jobs_async(queue="peer", status="succeeded")
    row = await app.connector.execute_query_one_async(_SPAN)
    right = sum(job.task_kwargs == expected for job in jobs)
    return {"right": right, "seconds": max(row["seconds"] or 0.0, 0.001)}


async def main(mode: str, first: str, second: str = "0") -> None:
    """Run a mode and print what it found."""
    async with app.open_async():
        if mode == "submit":
            found = await submit(int(first), float(second))
        elif mode == "latency":
            found = await latency(int(first))
        else:
            found = await {"bulk": bulk, "verify": verify}[mode](int(first), int(second))
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
