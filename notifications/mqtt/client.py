"""One connection to an MQTT 5 broker, made once and thrown away when it breaks.

paho runs the network in a thread of its own and never reconnects by itself: what was not
acknowledged is sent again by who knows the feed, not from the library's memory. Used by one thread.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

from paho.mqtt.client import Client, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from notifications.mqtt.conf import MqttConf
from notifications.mqtt.errors import MqttUnavailable
from notifications.mqtt.messages import Message
from tasks_app.clock import monotonic

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
_FAREWELL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Connected:
    reason: ReasonCode
    properties: Properties | None


@dataclass(frozen=True, slots=True)
class _Acknowledged:
    message_id: int
    reason: ReasonCode


@dataclass(frozen=True, slots=True)
class _Lost:
    reason: ReasonCode


_Signal = _Connected | _Acknowledged | _Lost


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of messages.

    Attributes:
        count: how many, from the first on, the broker has.
        fault: why not all, "" where it has all.
    """

    count: int
    fault: str = ""


class MqttClient:
    """A connection of the installation's name, with its last will."""

    def __init__(self, conf: MqttConf) -> None:
        self._conf = conf
        self._signals: SimpleQueue[_Signal] = SimpleQueue()
        self._is_open = False
        self._window = conf.window
        self._qos = conf.qos
        self._properties = _properties(conf)
        self._client = self._made()

    @property
    def is_open(self) -> bool:
        """Whether the broker has let us in and not gone since, as far as is known."""
        return self._is_open

    def open(self) -> None:
        """Connect and log in.

        Raises:
            MqttUnavailable: the broker does not answer, or refuses.
        """
        end = monotonic() + self._conf.timeout_seconds
        try:
            self._client.connect(self._conf.host, self._conf.port, self._conf.keepalive_seconds)
        except OSError as fault:
            raise MqttUnavailable("the MQTT broker cannot be reached") from fault
        self._client.loop_start()
        answer = self._next(end)
        if not isinstance(answer, _Connected) or answer.reason.is_failure:
            self.drop()
            raise MqttUnavailable(f"the MQTT broker does not let us in: {_reason(answer)}")
        self._window = min(self._window, _limit(answer, "ReceiveMaximum", self._window))
        self._qos = min(self._qos, _limit(answer, "MaximumQoS", self._qos))
        self._is_open = True

    def say_online(self) -> None:
        """Say so on the topic of the will.

        Raises:
            MqttUnavailable: the broker did not take it.
        """
        message = Message(
            topic=self._conf.status_topic,
            payload=ONLINE,
            place=0,
            is_retained=True,
            is_lasting=True,
        )
        sent = self.send([message])
        if sent.fault:
            raise MqttUnavailable(sent.fault)

    def send(self, messages: Sequence[Message]) -> Sent:
        """Publish in this order and wait for the acknowledgements.

        A connection that fails, or is late, is dropped; it is kept where the broker refuses one
        message. Without acknowledgements (QoS 0) what has left the process counts.
        """
        waiting: dict[int, int] = {}
        acknowledged = [False] * len(messages)
        end = monotonic() + self._conf.timeout_seconds
        fault, sent = "", 0
        while waiting or (sent < len(messages) and not fault):
            while sent < len(messages) and not fault and len(waiting) < self._window:
                waiting[self._publish(messages[sent])] = sent
                sent += 1
            answer = self._next(end)
            if not isinstance(answer, _Acknowledged):
                self.drop()
                fault = fault or f"the MQTT broker is gone: {_reason(answer)}"
                break
            place = waiting.pop(answer.message_id)
            acknowledged[place] = not answer.reason.is_failure
            if answer.reason.is_failure and not fault:
                fault = f"the MQTT broker refuses {messages[place].topic}: {answer.reason}"
        return Sent([*acknowledged, False].index(False), fault)

    def close(self) -> None:
        """Have the broker publish the will, and leave."""
        if self._is_open:
            reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
            self._client.disconnect(reasoncode=reason)
            end = monotonic() + _FAREWELL_SECONDS
            while isinstance(self._next(end), _Acknowledged):
                pass
        self.drop()

    def drop(self) -> None:
        """Cut the connection; the broker publishes the will."""
        self._is_open = False
        wire: Any = self._client.socket()
        if wire is not None:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def _publish(self, message: Message) -> int:
        done = self._client.publish(
            message.topic,
            message.payload,
            qos=self._qos,
            retain=message.is_retained,
            properties=None if message.is_lasting else self._properties,
        )
        if done.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._signals.put(_Lost(ReasonCode(PacketTypes.DISCONNECT, "Unspecified error")))
        return done.mid

    def _next(self, end: float) -> _Signal | None:
        try:
            return self._signals.get(timeout=max(0.0, end - monotonic()))
        except Empty:
            return None

    def _made(self) -> Client:
        conf = self._conf
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=conf.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = conf.timeout_seconds
        client.max_inflight_messages = 0  # `send` keeps the window
        if conf.user:
            client.username_pw_set(conf.user, conf.password or None)
        if conf.is_tls:
            client.tls_set_context(_tls(conf))
        client.will_set(conf.status_topic, OFFLINE, qos=conf.qos, retain=True)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    def _on_connect(
        self, _client: Client, _data: Any, _flags: Any, reason: Any, properties: Properties | None
    ) -> None:
        self._signals.put(_Connected(reason, properties))

    def _on_publish(
        self, _client: Client, _data: Any, number: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        self._signals.put(_Acknowledged(number, reason))

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: Any, _properties: Any
    ) -> None:
        self._is_open = False
        self._signals.put(_Lost(reason))


def _properties(conf: MqttConf) -> Properties:
    found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
    found.MessageExpiryInterval = conf.retain_seconds
    found.ContentType = "application/json"
    found.PayloadFormatIndicator = 1
    return found


def _tls(conf: MqttConf) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=conf.ca_file or None)
        if conf.cert_file:
            context.load_cert_chain(conf.cert_file, conf.key_file or None)
    except OSError as fault:
        raise MqttUnavailable("a certificate for the MQTT broker cannot be read") from fault
    return context


def _limit(answer: _Connected, name: str, otherwise: int) -> int:
    return int(getattr(answer.properties, name, otherwise))


def _reason(answer: _Signal | None) -> str:
    return "no answer in time" if answer is None else str(answer.reason)
