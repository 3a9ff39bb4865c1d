"""Streams read in any pieces, bodies written, webhooks verified."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from enum import Enum
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

import taskmill_client
from notifications.signing import shown_secret, signed_headers
from taskmill_client import ConfigurationError, InvalidSignature, verify_webhook
from taskmill_client.events import EventReader, SentEvent
from taskmill_client.wire import encode

STREAM = (
    "retry: 2000\n\n:\n\nid: 7\nevent: task.snapshot\ndata: {\"a\": \"\u20ac\"}\n\n"
    ": comment\r\nid: 8\r\nevent: task.progress\r\ndata: one\r\ndata:two\r\n\r\n"
    "data: bare\n\nevent: nothing\n\nid: 9\n\ndata: last\n\ndata: not complete\n"
)  # fmt: skip
MESSAGES = [
    SentEvent(id="7", type="task.snapshot", data='{"a": "\u20ac"}'),
    SentEvent(id="8", type="task.progress", data="one\ntwo"),
    SentEvent(id="8", type="message", data="bare"),
    SentEvent(id="9", type="message", data="last"),
]
KEYS = [b"k" * 24, b"l" * 32]
EVENT = {
    "specversion": "1.0",
    "id": "0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e.4",
    "type": "task.succeeded",
    "subject": "0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e",
    "time": "2026-11-28T12:00:00.5Z",
    "sequence": 1234,
    "data": {"task": {"result": {"n": 2**60}}},
}
BODY = json.dumps(EVENT).encode()


@given(st.lists(st.integers(0, len(STREAM.encode())), max_size=12))
def test_a_stream_reads_the_same_wherever_it_is_cut(places: list[int]) -> None:
    data, reader = STREAM.encode(), EventReader()
    edges = [0, *sorted(places), len(data)]
    pieces = [data[begin:end] for begin, end in pairwise(edges)]
    assert [one for piece in pieces for one in reader.feed(piece)] == MESSAGES


def test_bodies_hold_times_ids_and_enums_and_nothing_that_json_has_not() -> None:
    class Colour(Enum):
        RED = "red"

    at, one = datetime(2026, 11, 28, tzinfo=UTC), uuid.uuid4()
    body = {"at": at, "id": one, "colour": Colour.RED, "n": 2**70, "x": 0.1}
    assert json.loads(encode(body)) == {
        "at": "2026-11-28T00:00:00+00:00",
        "id": str(one),
        "colour": "red",
        "n": 2**70,
        "x": 0.1,
    }
    for wrong in (datetime(2026, 11, 28), object(), {1, 2}):  # noqa: DTZ001 - that is the point
        with pytest.raises(TypeError):
            encode({"x": wrong})
    with pytest.raises(ValueError, match="JSON"):
        encode({"x": float("nan")})


def headers(*, at: float | None = None, body: bytes = BODY, keys: Any = KEYS[:1]) -> dict[str, str]:
    now = int(time.time() if at is None else at)
    return signed_headers(keys, message_id=EVENT["id"], timestamp=now, body=body)


def secrets(*keys: bytes) -> list[str]:
    return [shown_secret(key) for key in keys]


def test_a_webhook_of_the_platform_is_believed() -> None:
    event = verify_webhook(BODY, headers(), shown_secret(KEYS[0]))
    assert (event.type, event.sequence, event.is_final) == ("task.succeeded", 4, True)
    assert event.data["task"]["result"]["n"] == 2**60
    titled = {name.title(): value for name, value in headers().items()}
    assert verify_webhook(BODY, titled, shown_secret(KEYS[0])) == event


def test_a_webhook_of_the_standard_s_own_library_is_believed() -> None:
    now = datetime.now(tz=UTC)
    signature = Webhook(shown_secret(KEYS[0])).sign("id", now, BODY.decode())
    given = {
        "webhook-id": "id",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    assert verify_webhook(BODY, given, shown_secret(KEYS[0])).id == EVENT["id"]


def test_while_secrets_change_either_side_may_know_both() -> None:
    assert verify_webhook(BODY, headers(keys=KEYS), secrets(KEYS[1]))
    assert verify_webhook(BODY, headers(keys=KEYS[:1]), secrets(KEYS[1], KEYS[0]))
    with pytest.raises(InvalidSignature):
        verify_webhook(BODY, headers(keys=KEYS[:1]), secrets(KEYS[1]))


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (BODY + b" ", {}),
        (BODY, {"webhook-id": "other"}),
        (BODY, {"webhook-timestamp": str(int(time.time()) - 100)}),
        (BODY, {"webhook-timestamp": "soon"}),
        (BODY, {"webhook-timestamp": "\u0661"}),
        (BODY, {"webhook-signature": ""}),
        (BODY, {"webhook-signature": "v1,"}),
        (BODY, {"webhook-signature": "v1,\u00e9\udce9"}),
        (BODY, {"webhook-signature": "v2,abc"}),
    ],
)
def test_a_webhook_that_was_changed_is_not_believed(body: bytes, changed: dict[str, str]) -> None:
    with pytest.raises(InvalidSignature):
        verify_webhook(body, headers() | changed, shown_secret(KEYS[0]))


@pytest.mark.parametrize("seconds", [-301, 302])
def test_a_webhook_of_another_time_is_not_believed(seconds: float) -> None:
    given = headers(at=time.time() + seconds)
    with pytest.raises(InvalidSignature, match="sent more than 300 s from now"):
        verify_webhook(BODY, given, shown_secret(KEYS[0]))
    assert verify_webhook(BODY, given, shown_secret(KEYS[0]), tolerance_seconds=400)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_webhook_without_a_header_is_not_believed(missing: str) -> None:
    given = headers()
    del given[missing]
    with pytest.raises(InvalidSignature, match=missing):
        verify_webhook(BODY, given, shown_secret(KEYS[0]))


def test_a_secret_that_is_none_is_told() -> None:
    for wrong in ("whsec_", "whsec_!", "", []):
        with pytest.raises(ConfigurationError):
            verify_webhook(BODY, headers(), wrong)


def test_signed_nonsense_is_not_an_event() -> None:
    for body in (b"{}", b"[]", b"no"):
        with pytest.raises(InvalidSignature, match="no event"):
            verify_webhook(body, headers(body=body), shown_secret(KEYS[0]))


def test_every_exported_name_is_there_and_documented() -> None:
    for name in taskmill_client.__all__:
        if not name.startswith("__"):
            assert getattr(taskmill_client, name).__doc__, name
    assert taskmill_client.__all__ == sorted(
        taskmill_client.__all__, key=lambda n: (n.islower() and not n.startswith("_"), n)
    )
