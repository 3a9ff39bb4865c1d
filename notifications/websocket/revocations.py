"""A revoked API key ends its subscriptions in every web process at once, by the channel layer.

One channel per process joins one group; the message names the key. The layer may lose messages,
and then the hub's own look at all keys, every 15 seconds, does the same: what is lost is time.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakKeyDictionary

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from tasks_app.platform import feed_hub, forget_principals
from tasks_app.telemetry import logger

GROUP: Final = "taskmill.revocations"
SEND_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 2.0
_log = logger(__name__)
_listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()


def announce_revocation(key_id: str) -> None:
    """Tell every web process that a key was revoked; never raises."""
    try:
        async_to_sync(_send)({"type": "key.revoked", "key_id": key_id})
    except (redis.RedisError, OSError) as error:
        _log.warning("a revocation is not announced; sockets end later", error=str(error))


async def _send(message: dict[str, Any]) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await get_channel_layer().group_send(GROUP, message)


def listen_for_revocations() -> None:
    """Have this process hear of revocations from now on; may be repeated."""
    loop = asyncio.get_running_loop()
    listener = _listeners.get(loop)
    if listener is None or listener.done():
        _listeners[loop] = loop.create_task(_listen())


async def _listen() -> None:
    while True:
        try:
            await _hear()
        except (redis.RedisError, OSError) as error:
            _log.warning("revocations are not heard; sockets end later", error=str(error))
            await asyncio.sleep(RETRY_SECONDS)


async def _hear() -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(GROUP, channel)
    while True:
        message = await layer.receive(channel)
        forget_principals()
        feed_hub().end_key(str(message["key_id"]))
