"""How a WebSocket ends: the close codes, and which error of the platform means which of them.

A refused client is accepted first and closed then, since a browser's page can read neither the
status nor the body of a refused handshake.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from tasks_app.platform import (
    FeedClosed,
    InfrastructureError,
    KeyNotInForce,
    NotAuthenticated,
    RateLimited,
    SlowSubscriber,
)
from tasks_app.public import TaskmillError, ValidationFailed


class CloseCode(IntEnum):
    """Close codes; 4000 to 4999 are an application's own (RFC 6455, 7.4.2)."""

    FINISHED = 1000
    TRY_AGAIN = 1013
    BAD_MESSAGES = 4400
    NOT_AUTHENTICATED = 4401
    NOT_ALLOWED = 4403
    TOO_SLOW = 4408
    TOO_MANY = 4429


MEANINGS: Final[dict[CloseCode, str]] = {
    CloseCode.FINISHED: "The one task of this socket has finished.",
    CloseCode.TRY_AGAIN: (
        "The server stops, its database does not answer, or the socket has been open for "
        "TASKMILL_STREAM_MOST_SECONDS: connect again and resume."
    ),
    CloseCode.BAD_MESSAGES: "A message was too large or binary, or many were not understood.",
    CloseCode.NOT_AUTHENTICATED: (
        "No valid API key, watch token or ticket was given, or the key is revoked."
    ),
    CloseCode.NOT_ALLOWED: (
        "The page's origin is not allowed, the connection is not encrypted, the key lacks the "
        "scope `tasks:read`, or there is no such task for it."
    ),
    CloseCode.TOO_SLOW: "The client takes events more slowly than they come: resume.",
    CloseCode.TOO_MANY: "Too many streams of one key are open, or too many messages were sent.",
}


class Goodbye(Exception):
    """The socket is to be closed.

    Args:
        code: tells the client what to do.
        reason: a word for programs, at most 40 characters.
    """

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


_CODES: Final[tuple[tuple[type[TaskmillError], CloseCode], ...]] = (
    (KeyNotInForce, CloseCode.NOT_AUTHENTICATED),
    (FeedClosed, CloseCode.TRY_AGAIN),
    (SlowSubscriber, CloseCode.TOO_SLOW),
    (NotAuthenticated, CloseCode.NOT_AUTHENTICATED),
    (RateLimited, CloseCode.TOO_MANY),
    (InfrastructureError, CloseCode.TRY_AGAIN),
    (ValidationFailed, CloseCode.BAD_MESSAGES),
)


def goodbye_of(error: TaskmillError) -> Goodbye:
    """Give the end that an error means for the whole socket."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Goodbye(code, error.code)
    return Goodbye(CloseCode.NOT_ALLOWED, error.code)
