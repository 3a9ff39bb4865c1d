"""Database work of the hub: a few threads, whose connections go back to the pool at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from django.db import InterfaceError, OperationalError, connections

from tasks_app.errors import StoreUnavailable

T = TypeVar("T")
THREADS: Final = 4
_pool: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="signalr")


async def in_thread(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """Run a synchronous function off the event loop.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_pool, _run, partial(function, *args, **options))


def _run(work: Callable[[], T]) -> T:
    try:
        return work()
    except (OperationalError, InterfaceError) as error:
        raise StoreUnavailable from error
    finally:
        connections.close_all()
