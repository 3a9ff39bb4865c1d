"""MQTT.js, a stock client of browsers, over a WebSocket with a login: the how-to's own code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import make_tenant
from tests.mosquitto import Mosquitto, running_mosquitto, shipped_configuration
from tests.mqtt import publisher, run_task
from tests.node_clients import node_client, node_package
from tests.processes import ROOT

pytestmark = pytest.mark.django_db(transaction=True)

HOW_TO = ROOT / "docs" / "how-to" / "watch-live-with-mqtt.md"
SOURCE = ROOT / "tests" / "mqttjs"
PREFIX = "tenants/{tenant}/"


@pytest.fixture(scope="module")
def script() -> Path:
    """The driver beside the how-to's module and the installed package."""
    place = node_package(SOURCE)
    found = re.search(r"^```javascript\n(.*?)^```", HOW_TO.read_text(), flags=re.M | re.S)
    assert found is not None
    (place / "watch-task.mjs").write_text(found[1])
    return Path(shutil.copy(SOURCE / "driver.mjs", place))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    configuration = shipped_configuration(tmp_path, "taskmill", "acme")
    with running_mosquitto(configuration=configuration) as found:
        yield found


def test_a_page_with_a_login_sees_a_task_to_its_end(script: Path, broker: Mosquitto) -> None:
    task_id = run_task(tenant=make_tenant("acme"))
    login = {"user": "acme", "password": "acme-word", "prefix": "tenants/acme/"}
    with (
        publisher(broker, url=broker.url("taskmill:taskmill-word"), prefix=PREFIX) as one,
        node_client(
            script, url=f"ws://127.0.0.1:{broker.websocket_port}", taskId=str(task_id), **login
        ) as page,
    ):
        page.until("connected")
        one.drain()
        lines = page.rest()
    seen = [line for line in lines if line["kind"] == "message"]  # it may connect once more
    assert seen, lines
    assert seen[-1]["event"] == "task.succeeded"
    assert [line["sequence"] for line in seen] == sorted({line["sequence"] for line in seen})


def test_a_wrong_password_is_told_to_the_page(script: Path, broker: Mosquitto) -> None:
    login = {"user": "acme", "password": "guess", "prefix": "tenants/acme/", "taskId": "none"}
    with node_client(script, url=f"ws://127.0.0.1:{broker.websocket_port}", **login) as page:
        [refused] = page.rest()
    assert refused["kind"] == "refused"
    assert "authorized" in refused["error"].lower()
