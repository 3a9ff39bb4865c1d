"""The settings of MQTT: what they mean, and what refuses the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from notifications.mqtt.conf import MqttConf


def test_a_url_is_taken_apart_and_decoded() -> None:
    conf = MqttConf(url="mqtts://us%40er:p%2Fw@broker.example")
    assert (conf.host, conf.port, conf.is_tls) == ("broker.example", 8883, True)
    assert (conf.user, conf.password) == ("us@er", "p/w")
    assert MqttConf(url="mqtt://h:99").port == 99


def test_the_url_is_not_shown_with_the_settings() -> None:
    assert "secret" not in repr(MqttConf(url="mqtt://user:secret@host"))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"url": "mqtt://h"},
        {"prefix": "acme/"},
        {"prefix": "t/{tenant}/"},
        {"key_file": ""},
        {"browser_url": "wss://broker.example:9001/mqtt"},
        {"browser_url": "ws://[::1]:9001"},
    ],
)
def test_sound_settings_have_no_fault(values: dict[str, Any]) -> None:
    assert list(MqttConf(**values).faults()) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("url", "http://broker:1883", "mqtt://user:password@host:1883"),
        ("url", "mqtt://", "mqtt://user:password@host:1883"),
        ("url", "mqtt://host:port", "mqtt://user:password@host:1883"),
        ("url", "mqtt://host/path", "mqtt://user:password@host:1883"),
        ("prefix", "acme", "end it with a slash"),
        ("prefix", "a/#/", "end it with a slash"),
        ("prefix", "{customer}/", "no braces but {tenant}"),
        ("prefix", "$SYS/", "no $"),
        ("ca_file", "/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("browser_url", "https://broker", "wss://"),
        ("browser_url", "wss://user:secret@broker", "without user and password"),
        ("browser_url", "wss://broker; script-src *", "wss://"),
    ],
)
def test_a_fault_names_the_variable_and_the_fix(name: str, value: str, words: str) -> None:
    [(variable, fix)] = MqttConf(**{name: value}).faults()  # type: ignore[arg-type]  # all texts
    assert variable == f"MQTT_{name.upper()}"
    assert words in fix


def test_a_key_needs_its_certificate(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.touch()
    [(variable, _fix)] = MqttConf(key_file=str(key)).faults()
    assert variable == "MQTT_CERT_FILE"


def test_the_prefix_decides_which_tenants_are_published() -> None:
    assert MqttConf().prefix_of("default") == ""
    assert MqttConf().prefix_of("acme") is None
    each = MqttConf(prefix="t/{tenant}/")
    assert (each.prefix_of("acme"), each.status_topic) == ("t/acme/", "t/taskmill/status")
