"""Events over MQTT: a real Mosquitto, stock subscribers, tenants with topics of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks_app.platform import Caller
from tasks_app.services.queues import pause_queue
from tests.factories import make_task, make_tenant
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
from tests.mqtt import on, publisher, run_task, statuses
from tests.processes import ROOT, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

FINAL = "success"


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
