"""How servers of a platform crash and come back."""

from __future__ import annotations

import os
import signal

from tests.faults.platform import Platform


def kill_the_broker(platform: Platform) -> None:
    """SIGKILL it and leave it down."""
    if platform.rabbitmq is not None:
        platform.rabbitmq.kill()
        return
    assert platform.valkey.process is not None
    os.killpg(platform.valkey.process.pid, signal.SIGKILL)
    platform.valkey.process.wait()


def start_the_broker(platform: Platform) -> None:
    """Start it on the data it left."""
    (platform.rabbitmq or platform.valkey).start()


def crash_the_broker(platform: Platform) -> None:
    """Kill it and start it again."""
    kill_the_broker(platform)
    start_the_broker(platform)


def crash_the_database(platform: Platform) -> None:
    """End it at once, without a checkpoint, and start it: it recovers from its log."""
    assert platform.postgres.process is not None
    platform.postgres.process.send_signal(signal.SIGQUIT)
    platform.postgres.process.wait()
    platform.postgres.start()
