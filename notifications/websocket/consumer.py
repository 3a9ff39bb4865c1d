"""The ASGI side of the WebSockets: from the handshake to the close frame.

Not built on the base classes of Channels: those open a channel in Redis for each socket, so that
none could be opened without Redis, and change threads for each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from notifications.threads import in_thread
from notifications.websocket.closing import Goodbye, goodbye_of
from notifications.websocket.handshake import Handshake, principal_of
from notifications.websocket.messages import Closing, Position, encoded, shown_sequence
from notifications.websocket.revocations import listen_for_revocations
from notifications.websocket.socket import EventSocket, Receive
from notifications.websocket.stream import SocketStream
from tasks_app.platform import connection_open
from tasks_app.public import TaskmillError
from tasks_app.rest import to_json

FAREWELL_SECONDS: Final = 5.0

Scope = MutableMapping[str, Any]
AsgiSend = Callable[[dict[str, Any]], Awaitable[None]]


async def events(scope: Scope, receive: Receive, send: AsgiSend) -> None:
    """`/ws/v1/events`: any number of subscriptions."""
    await _serve(scope, receive, send, None)


async def one_task(scope: Scope, receive: Receive, send: AsgiSend) -> None:
    """`/ws/v1/tasks/{id}`: one task from a snapshot to its end."""
    await _serve(scope, receive, send, scope["url_route"]["kwargs"]["task_id"])


async def _serve(scope: Scope, receive: Receive, send: AsgiSend, task: str | None) -> None:
    await receive()
    handshake = Handshake(scope)

    async def send_frame(frame: str) -> None:
        await send({"type": "websocket.send", "text": frame})

    try:
        principal = await in_thread(principal_of, handshake)
        socket = EventSocket(principal, receive=receive, send=send_frame)
    except TaskmillError as error:
        await _say_goodbye(send, goodbye_of(error), (), is_accepted=False)
        return
    try:
        listen_for_revocations()
        await send({"type": "websocket.accept"})
        with connection_open("websocket"):
            end = await socket.serve(task, handshake.parameter("after"))
        if end is not None:
            await _say_goodbye(send, end, socket.streams.values(), is_accepted=True)
    except OSError:
        return
    finally:
        socket.leave()


async def _say_goodbye(
    send: AsgiSend, end: Goodbye, streams: Iterable[SocketStream], *, is_accepted: bool
) -> None:
    """Close with a code, after a last message that says where each subscription stood.

    A client that takes nothing is left to the transport after `FAREWELL_SECONDS`.
    """
    positions = [Position(id=one.name, after=shown_sequence(one.after)) for one in streams]
    last = Closing(code=end.code, reason=end.reason, subscriptions=positions)
    try:
        async with asyncio.timeout(FAREWELL_SECONDS):
            if is_accepted:
                await send({"type": "websocket.send", "text": encoded(last)})
            else:
                await send({"type": "websocket.accept"})
            reason = _reason(end, positions)
            await send({"type": "websocket.close", "code": int(end.code), "reason": reason})
    except OSError:
        return


def _reason(end: Goodbye, positions: list[Position]) -> str:
    """Give the reason in the close frame: JSON of at most 123 bytes."""
    cursors = [None if one.after is None else int(one.after) for one in positions]
    known = [one for one in cursors if one is not None]
    resume = {"after": str(min(known))} if known and len(known) == len(cursors) else {}
    return to_json({"code": end.reason} | resume).decode()
