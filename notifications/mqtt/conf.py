"""The settings of the MQTT transport: environment variables `MQTT_<NAME>`.

Fields are declared as in `tasks_app.conf`; docs/reference/settings.md is generated from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from django.conf import settings

from tasks_app.conf import setting

TENANT_MARK: Final = "{tenant}"
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_URL_FIX: Final = (
    "write mqtt://user:password@host:1883, or mqtts://user:password@host:8883 for TLS, with "
    "special characters of user and password percent-encoded; unset it to publish nothing"
)
_PREFIX_FIX: Final = (
    "end it with a slash, such as acme/ or tenants/{tenant}/; + and # have no place in it, no "
    "braces but {tenant}, and no $ at its beginning"
)
_BROWSER_URL: Final = re.compile(
    r"wss?://([a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?(/[\w./-]*)?"
)
_PREFIX: Final = re.compile(r"(?!\$)([^+#{}\x00]|\{tenant\}){0,200}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttConf:
    """How events are published to an MQTT broker."""

    url: str = field(
        default="",
        repr=False,
        metadata={
            "doc": "Broker that events are published to, as `mqtt://user:password@host:1883` or "
            "`mqtts://...` for TLS; it has to speak MQTT 5. Unset: nothing is published.",
            "least": None,
            "most": None,
        },
    )
    prefix: str = setting(
        "",
        "What stands before every topic, with a slash at its end. `{tenant}` in it is replaced by "
        "the slug of the task's tenant; without it only `MQTT_TENANT` is published.",
    )
    tenant: str = setting(
        "default", "Slug of the one tenant that is published where the prefix has no `{tenant}`."
    )
    qos: int = setting(
        1,
        "Quality of service of every message: 0 may lose and is not acknowledged, 1 may repeat, "
        "2 is slower and does neither between here and the broker.",
        least=0,
        most=2,
    )
    retain_seconds: int = setting(
        259_200,
        "Seconds for which the broker keeps a message that it retains or queues, so that topics of "
        "old tasks do not pile up.",
        least=1,
        most=31_536_000,
    )
    window: int = setting(
        100,
        "Most messages sent ahead of the broker's acknowledgement; less where the broker says so.",
        least=1,
        most=1000,
    )
    timeout_seconds: float = setting(
        3.0,
        "Seconds to wait for a connection, and for the acknowledgement of a page of events. Keep "
        "it below two thirds of TASKMILL_LEADER_LEASE_SECONDS.",
        least=0.1,
        most=60,
    )
    keepalive_seconds: int = setting(
        15,
        "Seconds of silence after which the connection is tested; the broker gives the platform "
        "up, and tells `offline`, after one and a half times as many.",
        least=1,
        most=3600,
    )
    client_id: str = setting(
        "taskmill",
        "Name of this installation's connection, another one for each that shares a broker: the "
        "broker ends the older of two connections of a name, which fences a replaced leader.",
    )
    ca_file: str = setting(
        "",
        "PEM file with the authorities that may sign the broker's certificate; unset: all of "
        "the system's.",
    )
    cert_file: str = setting("", "PEM file with the client's certificate, for mutual TLS.")
    key_file: str = setting("", "PEM file with its key, where the certificate's file has it not.")

    browser_url: str = setting(
        "",
        "Address of the broker's WebSocket listener, as `wss://mqtt.example.org`: the page "
        "/examples/mqtt may connect to it, without a password. Unset: it connects to no broker.",
    )

    @property
    def host(self) -> str:
        """The broker's host."""
        return self._parts().hostname or ""

    @property
    def port(self) -> int:
        """The broker's port, by default that of the scheme."""
        parts = self._parts()
        return parts.port or _PORTS[parts.scheme]

    @property
    def user(self) -> str:
        """The user to log in as, "" for nobody."""
        return unquote(self._parts().username or "")

    @property
    def password(self) -> str:
        """The user's password, "" for none."""
        return unquote(self._parts().password or "")

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._parts().scheme == "mqtts"

    @property
    def status_topic(self) -> str:
        """Where the platform says `online` or `offline`; it belongs to no tenant."""
        return self.prefix.partition(TENANT_MARK)[0] + "taskmill/status"

    def prefix_of(self, tenant: str) -> str | None:
        """Give what stands before the topics of a tenant, None where it is not published."""
        if TENANT_MARK in self.prefix:
            return self.prefix.replace(TENANT_MARK, tenant)
        return self.prefix if tenant == self.tenant else None

    def faults(self) -> Iterator[tuple[str, str]]:
        """Give what refuses the start as `(variable, fix)`."""
        if self.url and not self._has_sound_url():
            yield "MQTT_URL", _URL_FIX
        if self.browser_url and not _BROWSER_URL.fullmatch(self.browser_url):
            yield "MQTT_BROWSER_URL", "write wss://mqtt.example.org, without user and password"
        if self.prefix and not _PREFIX.fullmatch(self.prefix):
            yield "MQTT_PREFIX", _PREFIX_FIX
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                yield f"MQTT_{name.upper()}", f"there is no file {path}; name a PEM file"
        if self.key_file and not self.cert_file:
            yield "MQTT_CERT_FILE", "set it to the certificate of MQTT_KEY_FILE"

    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    def _has_sound_url(self) -> bool:
        try:
            parts = self._parts()
            is_whole = bool(parts.hostname) and parts.scheme in _PORTS and self.port > 0
        except ValueError:
            return False
        return is_whole and parts.path in {"", "/"} and not parts.query and not parts.fragment


def mqtt_conf() -> MqttConf:
    """Give the settings of MQTT in force."""
    found: MqttConf = settings.MQTT
    return found


def is_mqtt_on() -> bool:
    """Say whether events are published to an MQTT broker."""
    return bool(mqtt_conf().url)
