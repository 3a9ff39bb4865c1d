"""MQTT: every event of the feed, published to a broker; see docs/adr/0009-mqtt.md."""
