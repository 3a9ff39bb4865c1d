"""What goes wrong with an MQTT broker."""

from __future__ import annotations

from tasks_app.errors import InfrastructureError


class MqttUnavailable(InfrastructureError):
    """The MQTT broker does not take messages now; they are sent when it does."""

    code = "mqtt_unavailable"
