"""Where a socket's rare database work runs: a small pool of threads, connections given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from django.db import InterfaceError, OperationalError, connections

from tasks_app.platform import StoreUnavailable

T = TypeVar("T")
THREADS: Final = 4
_pool: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="socket")


async def in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a function that uses the database.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_pool, _called, partial(function, *args, **kwargs))


def _called(function: Callable[[], T]) -> T:
    try:
        return function()
    except (OperationalError, InterfaceError) as error:
        raise StoreUnavailable from error
    finally:
        for one in connections.all(initialized_only=True):
            one.close()
