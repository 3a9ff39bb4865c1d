"""The peer of the live transports: Channels as its documentation has it, on channels-redis.

A consumer per socket joins a group; whoever has committed an event sends it to the group. What it
does not do beside ours: authenticate, keep what was missed, order, resume, tell a slow client.
Capacity is raised above its 100 messages, beyond which it would drop some in silence.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import channel_layers
from channels_redis.core import RedisChannelLayer

if TYPE_CHECKING:  # a web process must not set up a run of its own
    from bench.live_scene import Commit, Scene

GROUP = "bench"


def layer_of(url: str) -> RedisChannelLayer:
    """Give a channel layer on a server."""
    return RedisChannelLayer(hosts=[url], capacity=10_000)


class Peer(AsyncWebsocketConsumer):
    """One socket."""

    async def connect(self) -> None:
        """Join the group and say so."""
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()
        await self.send(text_data='{"type":"snapshot"}')

    async def disconnect(self, _code: int) -> None:
        """Leave the group."""
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def numbered(self, event: dict[str, Any]) -> None:
        """Pass an event on."""
        await self.send(text_data=event["text"])


def make_application() -> Any:
    """Give what uvicorn serves, at every path."""
    channel_layers.set("default", layer_of(os.environ["REDIS_URL"]))
    return Peer.as_asgi()


@contextmanager
def announcing(scene: Scene) -> Iterator[Commit]:
    """Give what commits events and then sends each to the group, as an application would."""
    layer = layer_of(scene.redis)

    async def send(numbers: list[int]) -> None:
        for number in numbers:
            text = f'{{"type":"task.progress","message":"{number}"}}'
            await layer.group_send(GROUP, {"type": "numbered", "text": text})

    with asyncio.Runner() as runner:

        def commit(count: int) -> tuple[list[int], int]:
            numbers, at = scene.commit(count)
            runner.run(send(numbers))
            return numbers, at

        yield commit
        runner.run(layer.close_pools())
