"""The engine's loop `mqtt`: publishes the feed and moves on by what the broker acknowledged.

Only one leader publishes. All leaders connect under one name, and the broker ends the older of two
connections of a name. A new connection is used only after the leadership was confirmed. So a leader
that was frozen finds itself cut off, or its leadership gone, before the broker takes anything from
it, and no old status is retained over a newer one.
"""

from __future__ import annotations

from collections.abc import Sequence

from notifications.mqtt.client import MqttClient
from notifications.mqtt.conf import MqttConf, mqtt_conf
from notifications.mqtt.errors import MqttUnavailable
from notifications.mqtt.messages import page_messages
from tasks_app.platform import FeedEvent, FeedSink, Round, SinkWork, Turn
from tasks_app.telemetry import logger

log = logger(__name__)


class MqttSink(FeedSink):
    """Publishes pages of events over a connection of its own."""

    name = "mqtt"

    def __init__(self, conf: MqttConf) -> None:
        self._conf = conf
        self._client: MqttClient | None = None
        self._prefixes: dict[str, str | None] = {}

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._client is not None and self._client.is_open

    def open(self) -> None:
        """Connect anew; whoever else publishes for this installation is cut off by the broker.

        Raises:
            MqttUnavailable: the broker does not answer, or refuses.
        """
        self.close()
        client = MqttClient(self._conf)
        client.open()
        self._client = client

    def say_online(self) -> None:
        """Say that the platform publishes.

        Raises:
            MqttUnavailable: the broker did not take it.
        """
        self._connected().say_online()

    def deliver(self, events: Sequence[FeedEvent]) -> int:
        """Publish a page; see `FeedSink.deliver`."""
        messages = page_messages(events, self._known(events))
        sent = self._connected().send(messages)
        if not sent.fault:
            return len(events)
        count = messages[sent.count].place
        if count == 0:
            raise MqttUnavailable(sent.fault)
        log.warning("the MQTT broker took part of a page", reason=sent.fault, events=count)
        return count

    def close(self) -> None:
        """Leave the broker; see `FeedSink.close`."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> MqttClient:
        if self._client is None:
            raise MqttUnavailable
        return self._client

    def _known(self, events: Sequence[FeedEvent]) -> dict[str, str | None]:
        tenants = {one.row["tenant"] for one in events if one.task_id is not None}
        for tenant in tenants - self._prefixes.keys():
            self._prefixes[tenant] = self._conf.prefix_of(tenant)
            if self._prefixes[tenant] is None:
                log.warning(
                    "events of this tenant are not published; put {tenant} into MQTT_PREFIX",
                    tenant=tenant,
                    published=self._conf.tenant,
                )
        return self._prefixes


class MqttWork(SinkWork):
    """Keeps the connection also while there are no events."""

    def __init__(self, sink: MqttSink) -> None:
        super().__init__(sink)
        self._mqtt = sink

    def run_once(self, turn: Turn) -> Round:
        """Connect, or hand on one page; see `Work.run_once`."""
        if self._mqtt.is_open:
            return super().run_once(turn)
        self._mqtt.open()
        try:
            with turn.connection.transaction():
                turn.leadership.fence(turn.connection.cursor())
            self._mqtt.say_online()
        except BaseException:
            self._mqtt.close()
            raise
        return Round(wait_seconds=0.0)


def make_work() -> MqttWork:
    """Build the work from the settings."""
    return MqttWork(MqttSink(mqtt_conf()))
