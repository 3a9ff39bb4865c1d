"""Submitting thousands: cut into requests, each repeatable by itself."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from taskmill_client.errors import TaskmillError
from taskmill_client.exchange import Exchange
from taskmill_client.wire import Call, Flow, JsonObject, encode

ITEMS_OF_A_REQUEST: Final = 1000
BYTES_OF_A_REQUEST: Final = 16_000_000
_ACCEPTED: Final = 202


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What became of one item.

    Attributes:
        status: 202 for taken, 200 where another task holds its key, else why it was refused.
        id: the task's; of a refused one that of the task in its way, or None.
        code, detail, errors: of the problem.
    """

    status: int
    id: str | None
    code: str = ""
    detail: str = ""
    errors: Sequence[JsonObject] = ()

    @property
    def is_accepted(self) -> bool:
        """Whether there is a task of it."""
        return self.status <= _ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """What became of many items, in their order."""

    items: Sequence[Submitted] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The tasks that there are."""
        return [one.id for one in self.items if one.is_accepted and one.id is not None]

    @property
    def rejected(self) -> list[tuple[int, Submitted]]:
        """What was refused, with its place among the items."""
        return [(place, one) for place, one in enumerate(self.items) if not one.is_accepted]


def submit_many(
    exchange: Exchange,
    items: Iterable[Mapping[str, Any]],
    *,
    is_atomic: bool,
    idempotency_key: str | None,
) -> Flow[BulkResult]:
    """Submit them in order.

    Raises:
        ApiError: a request was refused as a whole; the error's note says how many items were taken
            before it, and with which key all may be submitted again.
    """
    key = idempotency_key or uuid.uuid4().hex
    found: list[Submitted] = []
    portions = [list(items)] if is_atomic else portions_of(items)
    for number, portion in enumerate(one for one in portions if one):
        call = Call(
            method="POST",
            path="/tasks/bulk",
            body={"items": portion, "atomic": is_atomic},
            headers={"Idempotency-Key": f"{key}-{number}"},
        )
        try:
            answer = yield from exchange.json(call)
        except TaskmillError as error:
            error.add_note(
                f"{len(found)} items were dealt with before; submit all of them again with"
                f" idempotency_key={key!r} and none is submitted twice"
            )
            raise
        found += [_submitted(one) for one in answer["results"]]
    return BulkResult(items=found)


def _submitted(raw: JsonObject) -> Submitted:
    return Submitted(**{name: raw[name] for name in Submitted.__slots__ if name in raw})


def portions_of(items: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Cut items so that neither their number nor their bytes are too many for a request."""
    source = iter(items)
    while taken := list(islice(source, ITEMS_OF_A_REQUEST)):
        portion: list[Mapping[str, Any]] = []
        size = 0
        for item in taken:
            length = len(encode(item))
            if portion and size + length > BYTES_OF_A_REQUEST:
                yield portion
                portion, size = [], 0
            portion.append(item)
            size += length
        yield portion
