"""Writes of the HTTP protocol: an answer leaves as a whole, in order, and all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from config.http import PairedWrites


class Wire(asyncio.Transport):
    """A transport that notes what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True


def sent(act: Callable[[PairedWrites], None]) -> list[bytes]:
    async def main() -> list[bytes]:
        wire = Wire()
        act(PairedWrites(wire, asyncio.get_running_loop()))
        await asyncio.sleep(0)
        return wire.sent

    return asyncio.run(main())


def test_a_head_and_its_body_leave_together() -> None:
    def act(one: PairedWrites) -> None:
        one.write(b"head")
        one.write(b"body")

    assert sent(act) == [b"headbody"]


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_all_that_is_written_leaves_in_order(count: int) -> None:
    def act(one: PairedWrites) -> None:
        one.write(b"")
        for number in range(count):
            one.write(b"%d" % number)

    assert b"".join(sent(act)) == b"0123456789"[:count]


def test_a_closed_connection_has_sent_what_was_held() -> None:
    def act(one: PairedWrites) -> None:
        one.write(b"head")
        one.close()

    assert sent(act) == [b"head"]
