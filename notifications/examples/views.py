"""The example pages. They are public and hold no secret: a visitor brings the token.

The page's policy lets scripts and connections go to the platform alone; that of the page on MQTT
also to the broker that `MQTT_BROWSER_URL` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from notifications.mqtt.conf import mqtt_conf
from notifications.origins import origin_of
from tasks_app.rest import reads_only

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'{broker}; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_MQTT: Final = "mqtt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A page.

    Attributes:
        name: of the transport, and of the page in the address; "" for all side by side.
        about: what a reader should know of the transport, in a sentence or two.
    """

    name: str
    title: str
    about: str

    @property
    def is_single(self) -> bool:
        """Whether the page shows one transport."""
        return self.name != ""

    @property
    def is_mqtt(self) -> bool:
        """Whether the page connects to a broker."""
        return self.name == _MQTT


EXAMPLES: Final = (
    Example(
        name="",
        title="Side by side",
        about="One task, watched over every transport that the platform itself speaks.",
    ),
    Example(
        name="websocket",
        title="WebSocket",
        about="One socket of one task: a snapshot, its events, and an orderly close at the end.",
    ),
    Example(
        name="sse",
        title="Server-sent events",
        about="A plain HTTP answer that goes on. The browser reconnects and resumes by itself.",
    ),
    Example(
        name="signalr",
        title="SignalR",
        about="The JSON hub protocol over a WebSocket, spoken without the stock client.",
    ),
    Example(
        name=_MQTT,
        title="MQTT",
        about="MQTT 5 over the broker's WebSocket. The topics have no result; with a token beside "
        "the broker's user, the page asks the API for it at the end.",
    ),
    Example(
        name="polling",
        title="Polling",
        about="A long poll with an ETag: works wherever HTTP does. The others fall back to it.",
    ),
)
_BY_NAME: Final = {one.name: one for one in EXAMPLES}


@reads_only
def example_page(request: HttpRequest, name: str = "") -> HttpResponse:
    """Show the page of a transport, or the index."""
    if name not in _BY_NAME:
        raise Http404
    example, conf = _BY_NAME[name], mqtt_conf()
    shown = [example] if name else [one for one in EXAMPLES if one.name not in {"", _MQTT}]
    context = {
        "example": example,
        "examples": EXAMPLES,
        "bars": [(one.name, one.title) for one in shown],
        "broker": conf.browser_url,
        "prefix": conf.prefix if conf.browser_url else "",
    }
    response = render(request, "examples/page.html", context)
    broker = f" {origin_of(conf.browser_url)}" if example.is_mqtt and conf.browser_url else ""
    response.headers["Content-Security-Policy"] = _POLICY.format(broker=broker)
    return response
