"""Events over MQTT: a real Mosquitto, stock subscribers, and what a broken broker costs."""

from __future__ import annotations

import gc
import subprocess
import threading
import uuid
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from notifications.mqtt.client import MqttClient
from notifications.mqtt.conf import MqttConf
from notifications.mqtt.errors import MqttUnavailable
from notifications.mqtt.sink import MqttSink, MqttWork
from tasks_app import leadership
from tasks_app.conf import TasksConf, conf
from tasks_app.db import connect
from tasks_app.engine_loops import engine_loops
from tasks_app.leadership import LeadershipLost
from tasks_app.loops import Health, Round, Stop, Turn
from tasks_app.platform import Caller
from tasks_app.progress import save_progress
from tasks_app.services.queues import pause_queue
from tests.attempts import succeed_one
from tests.engines import running_loop, start_engine
from tests.factories import claim, make_task, make_tenant
from tests.mosquitto import (
    SHIPPED,
    Heard,
    Mosquitto,
    StockSubscriber,
    running_mosquitto,
    shipped_configuration,
    stock_subscriber,
    subscriber,
)
from tests.processes import ROOT, process_environment, wait_for
from tests.rabbitmq import free_port
from tests.relays import relay

pytestmark = pytest.mark.django_db(transaction=True)

FINAL = "success"


class Publisher:
    """The loop's work under the test's hand."""

    def __init__(self, server: Mosquitto, holder: str = "first", **settings: Any) -> None:
        values = {"url": server.url(), "timeout_seconds": 2.0} | settings
        self.sink = MqttSink(MqttConf(**values))
        self.work = MqttWork(self.sink)
        self.connection = connect("mqtt")
        self.holder = holder
        self.turn: Turn | None = None

    def lead(self, *, lease_seconds: float = 60.0) -> None:
        held = leadership.hold(
            self.connection.cursor(), loop="mqtt", holder=self.holder, lease_seconds=lease_seconds
        )
        assert held is not None
        self.turn = Turn(
            connection=self.connection, leadership=held, stop=Stop(), health=Health(5.0)
        )

    def round(self) -> Round:
        if self.turn is None:
            self.lead()
        assert self.turn is not None
        return self.work.run_once(self.turn)

    def drain(self) -> None:
        """Put all events in order and publish them."""
        with relay() as one:
            one.drain()
        while self.round().wait_seconds == 0:
            pass

    def close(self) -> None:
        self.work.rest(None)
        self.connection.close()


@contextmanager
def publisher(server: Mosquitto, holder: str = "first", **settings: Any) -> Iterator[Publisher]:
    one = Publisher(server, holder, **settings)
    try:
        yield one
    finally:
        one.close()


def run_task(*, reports: int = 0, tenant: Any = None) -> uuid.UUID:
    """Bring a task through its life, with reports of progress."""
    task_id = make_task(tenant or make_tenant("default"), state="dispatched")
    epoch = claim(task_id)
    for number in range(reports):
        with connection.cursor() as cursor:
            save_progress(
                cursor, task_id, epoch=epoch, percent=number, message=f"at {number}", detail=None
            )
    finish(task_id, epoch)
    return task_id


def finish(task_id: uuid.UUID, epoch: int) -> None:

    with connection.cursor() as cursor:
        assert succeed_one(cursor, task_id, epoch=epoch)


def statuses(messages: Iterable[Heard]) -> list[str]:
    return [one.body["status"] for one in messages]


def on(start: str, messages: Iterable[Heard]) -> list[Heard]:
    return [one for one in messages if one.topic.startswith(start)]


def steps(messages: Iterable[Heard]) -> dict[str, list[int]]:
    """Give what a subscriber keeps per task: `seq` of each message not older than the last."""
    kept: defaultdict[str, list[int]] = defaultdict(list)
    newest: defaultdict[str, int] = defaultdict(int)
    for body in (one.body for one in messages):
        if body["sequence"] > newest[body["task_id"]]:
            newest[body["task_id"]] = body["sequence"]
            kept[body["task_id"]].append(body["seq"])
    return dict(kept)


def public_steps() -> dict[str, list[int]]:
    """Give the same from the database: all steps that are published on `task/status/{id}`."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT task_id::text, seq FROM taskmill_event WHERE type IN ('task.created',"
            " 'task.started', 'task.succeeded', 'task.failed') ORDER BY task_id, seq"
        )
        for task_id, seq in cursor.fetchall():
            found[task_id].append(seq)
    return dict(found)


def test_mosquitto_sub_sees_the_statuses_in_order_and_the_newest_progress(
    mosquitto: Mosquitto,
) -> None:
    with (
        stock_subscriber(mosquitto, "task/status/+", "task/progress/+") as status,
        stock_subscriber(mosquitto, "task/status/status/+") as by_status,
        publisher(mosquitto) as one,
    ):
        task_id = str(run_task(reports=5))
        one.drain()
        heard = wait_for(lambda: status.heard() if len(status.heard()) >= 4 else None)
        assert [(item.topic, item.body["event"]) for item in heard] == [
            (f"task/status/{task_id}", "task.created"),
            (f"task/status/{task_id}", "task.started"),
            (f"task/progress/{task_id}", "task.progress"),
            (f"task/status/{task_id}", "task.succeeded"),
        ]
        assert statuses(heard) == ["pending", "processing", "processing", "success"]
        assert [item.body["sequence"] for item in heard] == sorted(
            item.body["sequence"] for item in heard
        )
        progress, final = heard[2].body, heard[3].body
        assert (progress["progress"], progress["message"]) == (4, "at 4")
        assert final["type"] == "tests.echo"
        assert (final["task_id"], final["state"], final["progress"]) == (task_id, "success", 100)
        assert final["time"].endswith("Z")
        assert final["error"] is None
        wait_for(lambda: len(by_status.heard()) >= 3)
        assert [item.topic for item in by_status.heard()] == [
            "task/status/status/pending",
            "task/status/status/processing",
            "task/status/status/success",
        ]


def test_who_subscribes_late_gets_the_final_status_that_the_broker_kept(
    mosquitto: Mosquitto,
) -> None:
    with publisher(mosquitto) as one:
        task_id = run_task(reports=2)
        one.drain()
        with (
            stock_subscriber(mosquitto, f"task/status/{task_id}") as late,
            stock_subscriber(mosquitto, "task/progress/#", "task/status/status/#") as nothing,
        ):
            [final] = wait_for(late.heard)
            assert final.is_retained
            assert final.body["status"] == FINAL
            assert nothing.heard() == []


def test_events_of_queues_are_passed_over_and_hold_nothing_up(mosquitto: Mosquitto) -> None:
    caller = Caller(tenant_id=make_tenant("default").pk, actor="tests")
    mail = make_task(make_tenant("default"), queue="mail")
    with stock_subscriber(mosquitto, "task/#") as status, publisher(mosquitto) as one:
        pause_queue(caller=caller, name="mail")
        task_id = run_task()
        one.drain()
        found = wait_for(
            lambda: status.heard() if statuses(status.heard())[-1:] == [FINAL] else None
        )
    assert {message.body["task_id"] for message in found} == {str(mail), str(task_id)}
    assert b"queue." not in b"".join(message.payload for message in found)


def test_a_failure_is_told_with_its_error(mosquitto: Mosquitto) -> None:
    with stock_subscriber(mosquitto, "task/status/status/failed") as failed:
        with publisher(mosquitto) as one:
            make_task(make_tenant("default"), state="failed")
            one.drain()
            [final] = wait_for(failed.heard)
        assert final.body["error"] == {"code": "HANDLER_ERROR", "message": "no"}


def test_a_subscriber_over_websocket_sees_the_same(mosquitto: Mosquitto) -> None:
    with (
        subscriber(mosquitto, "task/status/+", transport="websockets") as browser,
        publisher(mosquitto) as one,
    ):
        run_task()
        one.drain()
        wait_for(lambda: len(browser.heard()) >= 3)
        assert statuses(browser.heard()) == ["pending", "processing", "success"]


def test_what_is_retained_expires(mosquitto: Mosquitto) -> None:
    def kept(topic: str) -> list[Heard]:
        with subscriber(mosquitto, topic, "taskmill/status") as late:
            wait_for(late.heard)
            return [item for item in late.heard() if item.topic == topic]

    with publisher(mosquitto, retain_seconds=2) as one:
        topic = f"task/status/{run_task()}"
        with subscriber(mosquitto, topic) as live:
            one.drain()
            wait_for(lambda: len(live.heard()) == 3)
            assert {item.expires_in for item in live.heard()} <= {1, 2}
        wait_for(lambda: kept(topic) == [], reason="it is still retained")


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_have_the_quality_of_service_that_is_set(mosquitto: Mosquitto, qos: int) -> None:
    with (
        stock_subscriber(mosquitto, "task/status/+") as status,
        publisher(mosquitto, qos=qos, window=1) as one,
    ):
        run_task()
        one.drain()
        wait_for(lambda: len(status.heard()) >= 3)
        assert [item.qos for item in status.heard()] == [qos] * 3
        assert statuses(status.heard()) == ["pending", "processing", "success"]


def test_the_platform_says_whether_it_publishes(mosquitto: Mosquitto) -> None:
    def said(watching: StockSubscriber) -> list[bytes]:
        return [item.payload for item in watching.heard()]

    with stock_subscriber(mosquitto, "acme/taskmill/status") as watching:
        with publisher(mosquitto, prefix="acme/") as one:
            one.round()
            wait_for(lambda: said(watching) == [b"online"])
        wait_for(lambda: said(watching) == [b"online", b"offline"])
        with publisher(mosquitto, prefix="acme/") as one:
            one.round()
            assert one.sink._client is not None
            one.sink._client.drop()
            wait_for(lambda: said(watching)[2:] == [b"online", b"offline"])
            one.round()
            wait_for(lambda: said(watching)[4:] == [b"online"])
    with stock_subscriber(mosquitto, "acme/taskmill/status") as late:
        [last] = wait_for(late.heard)
        assert (last.payload, last.is_retained) == (b"offline", True)


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


def test_only_one_tenant_is_published_where_the_prefix_tells_none(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    with stock_subscriber(mosquitto, "#") as everything, publisher(mosquitto) as one:
        other = run_task(tenant=make_tenant("rival"))
        own = run_task()
        one.drain()
        wait_for(lambda: len(everything.heard()) >= 7)
        text = b"".join(item.payload + item.topic.encode() for item in everything.heard())
        assert str(own).encode() in text
        assert str(other).encode() not in text
    assert "events of this tenant are not published" in caplog.text


def test_tenants_have_topics_of_their_own_where_the_prefix_tells_them(
    mosquitto: Mosquitto,
) -> None:
    with (
        stock_subscriber(mosquitto, "tenants/acme/#") as acme,
        stock_subscriber(mosquitto, "tenants/rival/#") as rival,
        stock_subscriber(mosquitto, "tenants/taskmill/status") as status,
        publisher(mosquitto, prefix="tenants/{tenant}/") as one,
    ):
        tasks = [run_task(tenant=make_tenant(name)) for name in ("acme", "rival")]
        one.drain()
        for listening, task_id in zip((acme, rival), tasks, strict=True):
            wait_for(lambda listening=listening: len(listening.heard()) >= 6)
            assert {item.body["task_id"] for item in listening.heard()} == {str(task_id)}
        assert [item.payload for item in status.heard()] == [b"online"]


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


def test_the_shipped_configuration_keeps_tenants_apart(tmp_path: Path) -> None:
    """The files of deploy/mosquitto, which the how-to shows word for word."""
    page = (ROOT / "docs" / "how-to" / "watch-live-with-mqtt.md").read_text()
    shipped = {name: (SHIPPED / name).read_text() for name in ("mosquitto.conf", "acl")}
    assert all(f"```\n{text}```" in page for text in shipped.values())
    configuration = shipped_configuration(tmp_path, "taskmill", "acme", "rival")
    with (
        running_mosquitto(configuration=configuration) as server,
        subscriber(server, "#", user=("acme", "acme-word"), transport="websockets") as acme,
        subscriber(server, "#", user=("rival", "rival-word")) as rival,
        publisher(
            server, url=server.url("taskmill:taskmill-word"), prefix="tenants/{tenant}/"
        ) as one,
    ):
        tasks = [run_task(tenant=make_tenant(name)) for name in ("acme", "rival")]
        one.drain()
        for client, task_id in zip((acme, rival), tasks, strict=True):
            wait_for(lambda client=client: len(on("tenants/", client.heard())) >= 7)
            bodies = [item.body for item in client.heard() if "/task/" in item.topic]
            assert {body["task_id"] for body in bodies} == {str(task_id)}
