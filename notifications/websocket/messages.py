"""The messages on a WebSocket: what clients send, what they are sent, and the JSON of both."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from tasks_app.public import ValidationFailed
from tasks_app.rest import Event, PlatformEvent, Strict, Task, Text, to_json

MOST_NAMED: Final = 100
MOST_DIGITS: Final = 18
MOST_OF_POINTER: Final = 500
TASK_SOCKET_ID: Final = 0
"""The subscription that a socket of one task has from the start."""

SubscriptionId = Annotated[
    int | Annotated[Text, Field(min_length=1, max_length=64)],
    Field(description="Names the subscription on its socket; chosen by the client."),
]
Sequence = Annotated[str, Field(pattern=rf"^[0-9]{{1,{MOST_DIGITS}}}$")]
TaskId = Annotated[uuid.UUID, Field(strict=False)]


class Subscribe(Strict):
    """Send the events that fit all that is named: first snapshots of the named tasks."""

    op: Literal["subscribe"]
    id: SubscriptionId
    tasks: list[TaskId] = Field(default=[], max_length=MOST_NAMED)
    tags: list[Text] = Field(default=[], max_length=MOST_NAMED)
    types: list[Text] = Field(default=[], max_length=MOST_NAMED)
    after: Sequence | Annotated[int, Field(ge=0, lt=10**MOST_DIGITS)] | None = Field(
        default=None, description="Resume after the event with this `sequence`; no snapshots then."
    )


class Unsubscribe(Strict):
    """Send nothing more of a subscription."""

    op: Literal["unsubscribe"]
    id: SubscriptionId


class Ping(Strict):
    """Ask for a sign of life."""

    op: Literal["ping"]
    id: SubscriptionId | None = None


class Ack(BaseModel):
    """A subscription has begun or ended."""

    op: Literal["ack"] = "ack"
    id: SubscriptionId
    after: Sequence | None = Field(
        description="The sequence that its events come after, or, at its end, have reached; null "
        "where snapshots were still to come."
    )


class Pong(BaseModel):
    """A sign of life."""

    op: Literal["pong"] = "pong"
    id: SubscriptionId | None = None


class Fault(BaseModel):
    """A message was refused, or a subscription cannot go on; the socket stays open."""

    op: Literal["error"] = "error"
    id: SubscriptionId | None = None
    code: str = Field(description="As in the problems of the API.")
    detail: str
    errors: list[dict[str, str]] = []


class Envelope(BaseModel):
    """What the CloudEvents envelopes that are no event of the feed share."""

    specversion: Literal["1.0"]
    id: str
    source: str
    datacontenttype: Literal["application/json"]
    sequence: int = Field(ge=0, description="What follows comes after this place in the feed.")


class Snapshot(Envelope):
    """A whole task as it is when a subscription begins; later events are not in it."""

    type: Literal["task.snapshot"]
    subject: uuid.UUID = Field(description="The task's id.")
    time: AwareDatetime
    data: Task


class Reset(Envelope):
    """The cursor is not in the feed any more: forget what came before; snapshots follow."""

    type: Literal["stream.reset"]
    data: dict[str, Any]


class Delivery(BaseModel):
    """An event of a subscription: a CloudEvent, as in the other transports."""

    op: Literal["event"]
    id: SubscriptionId
    event: Event | PlatformEvent | Snapshot | Reset


class Position(BaseModel):
    """Where a subscription stood when its socket was closed."""

    id: SubscriptionId
    after: Sequence | None = Field(
        description="Resume after this; null where its snapshots had not all been sent."
    )


class Closing(BaseModel):
    """The last message: why the socket is closed and where each subscription stood."""

    op: Literal["closing"] = "closing"
    code: int
    reason: str
    subscriptions: list[Position]


Request = Subscribe | Unsubscribe | Ping
_REQUESTS: Final[TypeAdapter[Request]] = TypeAdapter(Annotated[Request, Field(discriminator="op")])


class Misunderstood(ValidationFailed):
    """The message is not one of this protocol; docs/how-to/watch-live-with-websocket.md has all."""

    code = "message_not_understood"

    @property
    def subscription_id(self) -> int | str | None:
        """The id that the message gave, if it gave a usable one."""
        found: int | str | None = self.fields.get("id")
        return found


def read_request(text: str) -> Request:
    """Read a client's message.

    Raises:
        Misunderstood: it is not JSON, or not a message of the protocol.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Misunderstood("the message is not JSON") from error
    try:
        return _REQUESTS.validate_python(value)
    except ValidationError as error:
        raise Misunderstood(errors=_places(error), id=_id_of(value)) from error


def _places(error: ValidationError) -> list[dict[str, str]]:
    return [
        {
            "pointer": "".join(f"/{part}" for part in one["loc"][1:])[:MOST_OF_POINTER],
            "code": one["type"],
            "detail": one["msg"],
        }
        for one in error.errors(include_url=False, include_input=False, include_context=False)[:10]
    ]


def _id_of(value: Any) -> int | str | None:
    found = value.get("id") if isinstance(value, dict) else None
    is_usable = isinstance(found, int | str) and not isinstance(found, bool)
    return found if is_usable and len(str(found)) <= 64 else None  # noqa: PLR2004 - as SubscriptionId


def encoded(message: BaseModel) -> str:
    """Give the JSON of a message."""
    return to_json(message.model_dump()).decode()


def delivery(subscription_id: bytes, event: bytes) -> str:
    """Give the JSON of a `Delivery` from the JSON of its parts."""
    return (b'{"op":"event","id":%s,"event":%s}' % (subscription_id, event)).decode()


def as_sequence(after: str | int | None) -> int | None:
    """Give a cursor as a number."""
    return None if after is None else int(after)


def shown_sequence(after: int | None) -> str | None:
    """Give a cursor as it is shown."""
    return None if after is None else str(after)
