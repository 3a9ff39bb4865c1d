"""MQTT where the broker is away, frozen, narrow or strict, and where leaders change."""

from __future__ import annotations

import gc
import subprocess
import threading
import warnings
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from notifications.mqtt.client import MqttClient
from notifications.mqtt.conf import MqttConf
from notifications.mqtt.errors import MqttUnavailable
from notifications.mqtt.sink import MqttSink, MqttWork
from tasks_app.conf import TasksConf, conf
from tasks_app.engine_loops import engine_loops
from tasks_app.leadership import LeadershipLost
from tests.engines import running_loop, start_engine
from tests.factories import claim, make_task, make_tenant
from tests.mosquitto import (
    Mosquitto,
    running_mosquitto,
    stock_subscriber,
    subscriber,
)
from tests.mqtt import Publisher, finish, on, public_steps, publisher, run_task, statuses, steps
from tests.processes import process_environment, wait_for
from tests.rabbitmq import free_port
from tests.relays import relay

pytestmark = pytest.mark.django_db(transaction=True)

FINAL = "success"


def test_a_broker_that_goes_away_and_comes_back_leaves_no_gap(mosquitto: Mosquitto) -> None:
    stop = threading.Event()

    def lives() -> None:
        try:
            while not stop.is_set():
                run_task(reports=2)
        finally:
            connection.close()

    work = MqttWork(MqttSink(MqttConf(url=mosquitto.url(), timeout_seconds=1.0, window=5)))
    settings = TasksConf(leader_lease_seconds=5.0)
    with subscriber(mosquitto, "task/status/+") as client:
        writer = threading.Thread(target=lives)
        with (
            running_loop(engine_loops()["relay"].make_work(), conf()),
            running_loop(work, settings),
        ):
            writer.start()
            for _ in range(2):
                before = len(client.heard())
                wait_for(lambda before=before: len(client.heard()) > before + 30)
                mosquitto.stop()
                mosquitto.start()
            stop.set()
            writer.join()
            expected = public_steps()
            wait_for(lambda: steps(client.heard()) == expected, reason="a step is missing")
        assert len(expected) > 20


def test_a_stopped_broker_delays_and_its_return_is_noticed_without_an_event(
    mosquitto: Mosquitto,
) -> None:
    with publisher(mosquitto) as one:
        one.round()
        mosquitto.stop()
        wait_for(lambda: not one.sink.is_open)
        run_task()
        with pytest.raises(MqttUnavailable, match="cannot be reached"):
            one.round()
        mosquitto.start()
        with stock_subscriber(mosquitto, "taskmill/status", "task/status/+") as back:
            one.round()
            wait_for(lambda: [item.payload for item in back.heard()][-1:] == [b"online"])
            one.drain()
            wait_for(lambda: steps(on("task/status/", back.heard())) == public_steps())


def test_a_frozen_broker_does_not_hold_the_loop_and_nothing_counts_as_sent(
    mosquitto: Mosquitto,
) -> None:
    import signal

    with publisher(mosquitto, timeout_seconds=0.5) as one:
        one.round()
        task_id = run_task()
        assert mosquitto.process is not None
        mosquitto.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(MqttUnavailable, match="no answer in time"):
                one.drain()
        finally:
            mosquitto.process.send_signal(signal.SIGCONT)
        one.drain()
        with stock_subscriber(mosquitto, f"task/status/{task_id}") as late:
            assert statuses(wait_for(late.heard)) == [FINAL]


def test_a_leader_that_was_replaced_while_it_slept_publishes_nothing(mosquitto: Mosquitto) -> None:
    """Its old statuses would be retained over the newer ones of the next leader."""
    task_id = make_task(make_tenant("default"), state="dispatched")
    with publisher(mosquitto) as old, publisher(mosquitto, "second") as new:
        old.lead(lease_seconds=0.0)
        with relay() as one:
            one.drain()
        finish(task_id, claim(task_id))
        new.lead()
        new.drain()
        with subscriber(mosquitto, "task/status/+") as client:
            wait_for(lambda: statuses(client.heard()) == [FINAL])
            with pytest.raises(LeadershipLost):
                old.round()
            wait_for(lambda: not new.sink.is_open)
            run_task()
            new.drain()
            wait_for(lambda: len(client.heard()) == 4)
            assert statuses(client.heard())[1:] == ["pending", "processing", FINAL]


def test_the_next_leader_cuts_the_connection_of_the_one_before(mosquitto: Mosquitto) -> None:
    run_task()
    with publisher(mosquitto) as old, publisher(mosquitto, "second") as new:
        old.lead(lease_seconds=0.5)
        old.round()
        assert old.sink.is_open
        wait_for(lambda: leads(new))
        new.drain()
        wait_for(lambda: not old.sink.is_open)
        with subscriber(mosquitto, "task/status/+") as client:
            wait_for(client.heard)
            with pytest.raises(LeadershipLost):
                old.round()
            assert statuses(client.heard()) == [FINAL]


def leads(one: Publisher) -> bool:
    try:
        one.lead()
    except AssertionError:
        return False
    return True


def test_a_killed_engine_is_followed_by_another_without_a_gap(mosquitto: Mosquitto) -> None:
    variables = {"MQTT_URL": mosquitto.url(), "TASKMILL_LEADER_LEASE_SECONDS": "1"}
    engines = [start_engine("--only", "relay,mqtt", **variables) for _ in range(2)]
    try:
        with subscriber(mosquitto, "task/status/+") as client:
            for _ in range(20):
                run_task()
            wait_for(lambda: len(client.heard()) > 20)
            leading = next(one for one in engines if f":{one.pid}:" in holder_of("mqtt"))
            leading.kill()
            for _ in range(20):
                run_task()
            expected = public_steps()
            wait_for(lambda: steps(client.heard()) == expected, reason="a step is missing")
        for one in engines:
            if one.popen.poll() is None:
                assert one.stop() == 0
    finally:
        for one in engines:
            if one.popen.poll() is None:
                one.kill()


def holder_of(loop: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT holder FROM taskmill_leader WHERE loop = %s", [loop])
        return str(cursor.fetchone()[0])


def test_a_broker_with_few_receive_slots_is_not_overrun() -> None:
    configuration = "allow_anonymous true\nmax_inflight_messages 2\n"
    with (
        running_mosquitto(configuration=configuration) as server,
        publisher(server, qos=2) as one,
        subscriber(server, "task/status/+") as client,
    ):
        for _ in range(10):
            run_task()
        one.drain()
        wait_for(lambda: steps(client.heard()) == public_steps())


def test_a_wrong_password_and_a_refused_topic_are_told(tmp_path: Any) -> None:
    passwords, rules = tmp_path / "passwords", tmp_path / "acl"
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", str(passwords), "taskmill", "right"], check=True
    )
    rules.write_text("user taskmill\ntopic write taskmill/status\n")
    passwords.chmod(0o600)
    rules.chmod(0o600)
    configuration = f"allow_anonymous false\npassword_file {passwords}\nacl_file {rules}\n"
    with running_mosquitto(configuration=configuration) as server:
        with (
            publisher(server, url=server.url("taskmill:wrong")) as one,
            pytest.raises(MqttUnavailable, match=r"does not let us in: Not authorized"),
        ):
            one.round()
        run_task()
        with (
            publisher(server, url=server.url("taskmill:right")) as one,
            pytest.raises(MqttUnavailable, match=r"refuses task/status/.*Not authorized"),
        ):
            one.drain()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate of the broker that signs itself."""
    home = tmp_path_factory.mktemp("tls")
    paths = {"cert": str(home / "cert.pem"), "key": str(home / "key.pem")}
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", paths["key"], "-out", paths["cert"]),
        ],
        check=True,
        capture_output=True,
    )
    return paths


def test_mqtts_is_encrypted_and_checks_the_certificate(authority: dict[str, str]) -> None:
    tls = [f"certfile {authority['cert']}", f"keyfile {authority['key']}"]
    mutual = [f"cafile {authority['cert']}", "require_certificate true"]
    with running_mosquitto(tls=[*tls, *mutual]) as server:
        url = server.url(scheme="mqtts")
        with publisher(server, url=url) as one:
            with pytest.raises(MqttUnavailable, match="cannot be reached") as refused:
                one.round()
            assert "certificate verify failed" in str(refused.value.__cause__)
            with warnings.catch_warnings():  # paho leaves the refused socket to the collector
                warnings.simplefilter("ignore", ResourceWarning)
                del refused
                gc.collect()
        pair = {"cert_file": authority["cert"], "key_file": authority["key"]}
        with publisher(server, url=url, ca_file=authority["cert"], **pair) as one:
            task_id = run_task()
            one.drain()
        with stock_subscriber(server, f"task/status/{task_id}") as late:
            assert statuses(wait_for(late.heard)) == [FINAL]


def test_nothing_listens_is_told_and_costs_no_thread() -> None:
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(MqttUnavailable, match="cannot be reached"):
            MqttClient(MqttConf(url=f"mqtt://127.0.0.1:{free_port()}")).open()
    assert threading.active_count() == before


def test_the_loop_is_off_without_a_url() -> None:
    assert "mqtt" not in engine_loops()
    with override_settings(MQTT=MqttConf(url="mqtt://broker")):
        assert "mqtt" in engine_loops()


def test_a_wrong_url_refuses_the_start_with_the_fix() -> None:
    engine = start_engine(MQTT_URL="http://broker:1883")
    assert engine.popen.wait(60) != 0
    assert "MQTT_URL: write mqtt://user:password@host:1883" in engine.output()
    assert process_environment()["DATABASE_URL"] not in engine.output()
