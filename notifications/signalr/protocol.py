"""SignalR's JSON hub protocol, version 1: records in, messages out. Pure.

Source: the HubProtocol and TransportProtocols specifications of ASP.NET Core SignalR.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import orjson

PROTOCOL: Final = "json"
PROTOCOL_VERSION: Final = 1
MOST_BYTES: Final = 65_536
MOST_ID_CHARACTERS: Final = 128
_SEPARATOR: Final = b"\x1e"


class MessageType(IntEnum):
    """The `type` of a hub message."""

    INVOCATION = 1
    STREAM_ITEM = 2
    COMPLETION = 3
    STREAM_INVOCATION = 4
    CANCEL_INVOCATION = 5
    PING = 6
    CLOSE = 7


class ProtocolFault(Exception):
    """What the client sent is not of the protocol; the connection cannot go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A call of a hub method.

    Attributes:
        invocation_id: what the completion names; None where the client wants none.
        is_streaming: the client wants, or offers, a stream.
    """

    invocation_id: str | None
    target: str
    arguments: list[Any]
    is_streaming: bool


class RecordReader:
    """Cuts what arrives into records, wherever the messages of the WebSocket begin and end."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Give the records that are complete now, without their separators.

        Raises:
            ProtocolFault: a message of the WebSocket or a record is larger than `MOST_BYTES`.
        """
        begin = len(self._rest)
        if len(data) > MOST_BYTES:
            raise ProtocolFault(f"a message is larger than {MOST_BYTES} bytes")
        self._rest += data
        end = self._rest.rfind(_SEPARATOR, begin)
        records = bytes(self._rest[: max(end, 0)]).split(_SEPARATOR) if end >= 0 else []
        del self._rest[: end + 1]
        if max(map(len, (self._rest, *records))) > MOST_BYTES:
            raise ProtocolFault(f"a message is larger than {MOST_BYTES} bytes")
        return records


def check_handshake(record: bytes) -> None:
    """Check a handshake request.

    Raises:
        ProtocolFault: it is none, or for another protocol or version.
    """
    request = _object(record)
    protocol, version = request.get("protocol"), request.get("version")
    if not isinstance(protocol, str) or type(version) is not int:
        raise ProtocolFault("the handshake names no protocol and version")
    if protocol != PROTOCOL:
        raise ProtocolFault(f"The protocol '{protocol[:40]}' is not supported.")
    if version != PROTOCOL_VERSION:
        raise ProtocolFault(
            f"The server does not support version {version} of the '{PROTOCOL}' protocol."
        )


def read_message(record: bytes) -> tuple[int, Invocation | None]:
    """Give a message's type, and the invocation where it is one.

    Raises:
        ProtocolFault: it is not a message.
    """
    message = _object(record)
    kind = message.get("type")
    if type(kind) is not int:
        raise ProtocolFault("a message has no type")
    if kind in {MessageType.INVOCATION, MessageType.STREAM_INVOCATION}:
        return kind, _invocation(kind, message)
    return kind, None


def _invocation(kind: int, message: Mapping[str, Any]) -> Invocation:
    invocation_id, target = message.get("invocationId"), message.get("target")
    arguments = message.get("arguments")
    if not isinstance(target, str) or not isinstance(arguments, list):
        raise ProtocolFault("an invocation names no target and arguments")
    is_id = isinstance(invocation_id, str) and 0 < len(invocation_id) <= MOST_ID_CHARACTERS
    if not is_id and (invocation_id is not None or kind == MessageType.STREAM_INVOCATION):
        raise ProtocolFault("an invocation's id is no short text")
    return Invocation(
        invocation_id=invocation_id,
        target=target,
        arguments=arguments,
        is_streaming=kind == MessageType.STREAM_INVOCATION or bool(message.get("streamIds")),
    )


def _object(record: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(record)
    except orjson.JSONDecodeError as error:
        raise ProtocolFault("a message is not JSON") from error
    if not isinstance(found, dict):
        raise ProtocolFault("a message is not a JSON object")
    return found


def handshake_answer(error: str = "") -> str:
    """Give the answer to a handshake request."""
    return _record({"error": error} if error else {})


def invocation(target: str, argument: Mapping[str, Any]) -> str:
    """Give a call of a client's method with one argument, which wants no answer."""
    return _record({"type": MessageType.INVOCATION, "target": target, "arguments": [argument]})


def completion(invocation_id: str, error: str = "") -> str:
    """Give the answer to an invocation: nothing, or why it failed."""
    outcome = {"error": error} if error else {"result": None}
    return _record({"type": MessageType.COMPLETION, "invocationId": invocation_id, **outcome})


def closing(error: str = "", *, may_reconnect: bool) -> str:
    """Give the last message of a connection."""
    message: dict[str, Any] = {"type": MessageType.CLOSE}
    if error:
        message["error"] = error
    if may_reconnect:
        message["allowReconnect"] = True
    return _record(message)


def _record(message: Mapping[str, Any]) -> str:
    encoded = orjson.dumps(message, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
    return (encoded + _SEPARATOR).decode()


PING: Final = _record({"type": MessageType.PING})
