"""The feed of events as they happen, and what sends them on to a URL, signed as a webhook is."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, Self

import httpx

from taskmill_client.cli.faults import ExitCode, Refusal
from taskmill_client.cli.output import say, write
from taskmill_client.cli.session import Platform
from taskmill_client.events import EventReader

SILENCE_SECONDS: Final = 45.0
FORWARD_SECONDS: Final = 15.0
REST_SECONDS: Final = 1.0
LONGEST_REST_SECONDS: Final = 15.0
_NOT_EVENTS: Final = frozenset({"task.snapshot", "stream.reset"})
_REFUSED: Final = {
    401: ExitCode.AUTHENTICATION,
    403: ExitCode.AUTHENTICATION,
    404: ExitCode.NOT_FOUND,
}


def feed(chosen: Platform, types: Sequence[str], tags: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Give events as they happen, over cut connections; none is left out between two of them.

    Raises:
        Refusal: the platform says no, or is not there at the beginning.
    """
    query = {"types": ",".join(types), "tags": ",".join(tags)}
    params = {name: value for name, value in query.items() if value}
    last_id, rest, has_begun = "", REST_SECONDS, False
    while True:
        try:
            for place, raw in _stream(chosen, params, last_id):
                last_id, has_begun, rest = place, True, REST_SECONDS
                if raw is not None and raw.get("type") not in _NOT_EVENTS:
                    yield raw
        except httpx.TransportError as error:
            if not has_begun:
                message = f"no answer from {chosen.url}: {error}"
                raise Refusal(message, code=ExitCode.UNREACHABLE) from error
        say("the connection is cut; connecting again")
        time.sleep(rest)
        rest = min(rest * 2, LONGEST_REST_SECONDS)


def _stream(
    chosen: Platform, params: dict[str, str], last_id: str
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    headers = {"Authorization": f"Bearer {chosen.token}", "Accept": "text/event-stream"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    url = f"{chosen.url.rstrip('/')}/api/v1/events/stream"
    times = httpx.Timeout(10.0, read=SILENCE_SECONDS)
    with httpx.stream("GET", url, params=params, headers=headers, timeout=times) as answer:
        if answer.status_code != 200:  # noqa: PLR2004 - HTTP status
            _refuse(answer)
        yield last_id, None
        reader = EventReader()
        for chunk in answer.iter_bytes():
            for message in reader.feed(chunk):
                yield message.id, json.loads(message.data)


def _refuse(answer: httpx.Response) -> None:
    if answer.status_code >= 500:  # noqa: PLR2004 - HTTP status
        raise httpx.RemoteProtocolError(f"HTTP {answer.status_code}")
    answer.read()
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"HTTP {answer.status_code}"
    raise Refusal(detail, code=_REFUSED.get(answer.status_code, ExitCode.USAGE))


class Forwarder:
    """Sends events to a URL.

    Args:
        secret: `whsec_...`; empty to send them unsigned.

    Raises:
        Refusal: the secret is none.
    """

    def __init__(self, address: str, secret: str) -> None:
        self._address = address
        self._key = _key_of(secret) if secret else b""
        self._http = httpx.Client(timeout=FORWARD_SECONDS, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def send(self, raw: dict[str, Any]) -> None:
        """Send one, and print what became of it."""
        body = json.dumps(raw, ensure_ascii=False, separators=(",", ":")).encode()
        headers = self._headers(str(raw["id"]), body)
        try:
            outcome = str(self._http.post(self._address, content=body, headers=headers).status_code)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            outcome = f"not delivered: {error or type(error).__name__}"
        write(f"{raw['time']} {raw['type']} {raw.get('subject', '')} {outcome}")

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        at = str(int(time.time()))  # noqa: TID251 - when it is sent
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": at,
        }
        if self._key:
            signed = hmac.digest(self._key, f"{message_id}.{at}.".encode() + body, hashlib.sha256)
            headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
        return headers


def _key_of(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal("a webhook's secret looks like whsec_... and base64") from error
