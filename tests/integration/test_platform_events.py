"""Events of queues, workers and schedules: in the feed beside those of tasks, for who may know."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from django.db import connection, transaction

import tests.task_handlers  # noqa: F401 - registers the types
from notifications.models import WebhookDelivery
from scheduler.models import Firing
from scheduler.operating import run_now
from tasks_app.feed import PLATFORM_EVENTS, FeedEvent, read_feed
from tasks_app.maintenance.absent import NoteLostWorkers
from tasks_app.maintenance.prune import PruneFeed
from tasks_app.maintenance.step import StepTurn
from tasks_app.models import Event, Tenant
from tasks_app.platform import Caller
from tasks_app.services.queues import pause_queue, resume_queue
from tasks_app.transitions import report_worker
from tests.beats import caller, clock_shifted, every, make_schedule, tick
from tests.factories import make_key, make_task, make_tenant, make_worker
from tests.integration.api_client import Api
from tests.processes import wait_for
from tests.receivers import receiver
from tests.relays import relay
from tests.sockets import opened, validator_of
from tests.web import SentEvent, Web, streaming, web
from tests.webhooks import LOCAL, make_endpoint, running_webhooks

pytestmark = pytest.mark.django_db(transaction=True)
LEASE = 15.0
HOUR = 3600


@pytest.fixture(scope="module")
def server(valkey: Any, django_db_setup: None) -> Iterator[Web]:
    with web(TASKMILL_STREAM_HEARTBEAT_SECONDS="0.2") as found:
        yield found


def sequence() -> None:
    with relay() as one:
        one.drain()


def feed() -> list[FeedEvent]:
    """Give the whole feed, which has no gap."""
    sequence()
    with connection.cursor() as cursor:
        found = read_feed(cursor, after=0, until=10_000)
    assert [one.sequence for one in found] == list(range(1, len(found) + 1))
    return found


def told(*, tenant: Tenant | None = None) -> list[tuple[str, str]]:
    """Give type and subject of the feed's events of no task, of the installation or a tenant."""
    owner = None if tenant is None else tenant.pk
    return [
        (one.type, one.row["subject"])
        for one in feed()
        if one.task_id is None and one.tenant_id == owner
    ]


def operator(tenant: str = "default") -> Caller:
    return Caller(tenant_id=make_tenant(tenant).pk, actor="admin:ann")


def pause_and_resume(name: str = "default") -> None:
    make_task(make_tenant("default"), queue=name)
    for _ in range(2):  # the second time changes nothing
        pause_queue(caller=operator(), name=name, reason="deploy")
    for _ in range(2):
        resume_queue(caller=operator(), name=name)


def note_lost(*, healthy_seconds: float = 1e9) -> int:
    step = NoteLostWorkers(lease_seconds=LEASE)
    with connection.cursor() as cursor:
        return step.run_once(cursor, StepTurn(now=0.0, healthy_seconds=healthy_seconds)).count


def report(worker_id: str) -> None:
    with connection.cursor() as cursor:
        report_worker(
            cursor, worker_id=worker_id, name="tests:1", queues=("default",), slots=2, busy=0,
            memory_bytes=0, is_stopping=False,
        )  # fmt: skip


def test_a_pause_and_a_resumption_are_told_once_each_with_who_and_why() -> None:
    pause_and_resume("mail")
    assert told() == [("queue.paused", "mail"), ("queue.resumed", "mail")]
    paused = Event.objects.get(type="queue.paused")
    assert (paused.actor, paused.data) == ("admin:ann", {"reason": "deploy"})
    assert (paused.task_id, paused.tenant_id) == (None, None)


def test_other_tenants_are_not_told_which_key_paused_a_queue() -> None:
    key = f"api:{uuid.uuid4()}"
    make_task(make_tenant("default"), queue="mail")
    pause_queue(caller=Caller(tenant_id=make_tenant("default").pk, actor=key), name="mail")
    [told_all] = [event for event in feed() if event.type == "queue.paused"]
    assert json.loads(told_all.json)["data"]["actor"] == "api"
    assert Event.objects.get(type="queue.paused").actor == key


def test_a_pause_that_commits_late_is_in_the_feed_all_the_same() -> None:
    make_task(make_tenant("default"), queue="mail")
    with relay() as one:
        one.drain()
        with transaction.atomic():
            pause_queue(caller=operator(), name="mail")
            other = asyncio.run(asyncio.to_thread(_task_of_another_connection))
            one.drain()
        one.drain()
    kinds = [(event.type, event.task_id) for event in feed()]
    assert kinds[-2:] == [("task.created", other), ("queue.paused", None)]


def _task_of_another_connection() -> uuid.UUID:
    try:
        return make_task()
    finally:
        connection.close()


def test_a_worker_is_told_when_it_comes_when_it_is_lost_and_when_it_is_back() -> None:
    worker = make_worker("default")
    report(worker)
    assert note_lost() == 0
    with clock_shifted(LEASE + 1):
        assert note_lost(healthy_seconds=LEASE - 1) == 0
        assert note_lost() == 1
        assert note_lost() == 0
        report(worker)
        report(worker)
    kinds = ["worker.online", "worker.lost", "worker.online"]
    assert told() == [(kind, worker) for kind in kinds]
    lost = Event.objects.get(type="worker.lost").data
    assert lost is not None
    assert (lost["name"], lost["queues"], lost["slots"]) == ("tests:1", ["default"], 2)


def test_fired_and_missed_instants_are_told_to_the_tenant_of_the_schedule() -> None:
    schedule = make_schedule(every(HOUR), catch_up="last")
    with clock_shifted(3 * HOUR + 5):
        tick()
    run_now(caller=caller(), schedule_id=schedule.id)
    tenant = make_tenant("default")
    subject = str(schedule.id)
    kinds = ["schedule.missed", "schedule.missed", "schedule.fired", "schedule.fired"]
    assert told(tenant=tenant) == [(kind, subject) for kind in kinds]
    fired, manual = Event.objects.filter(type="schedule.fired").order_by("id")
    task = Event.objects.filter(type="task.created").order_by("id")[0]
    assert fired.data is not None
    assert manual.data is not None
    assert (fired.data["schedule"], fired.data["task_id"]) == (schedule.key, str(task.task_id))
    assert (fired.data["is_manual"], manual.data["is_manual"]) == (False, True)
    assert (fired.actor, manual.actor) == ("", "tests")
    for event in (fired, manual):
        late = event.at - datetime.fromisoformat(event.data["nominal_at"])
        assert event.data["late_seconds"] == pytest.approx(late.total_seconds(), abs=0.5)
    assert fired.data["late_seconds"] >= 5


def test_an_instant_that_waited_and_expired_is_told_as_missed() -> None:
    schedule = make_schedule(every(HOUR), overlap="queue_one", expire_seconds=60)
    with clock_shifted(HOUR + 1):
        tick()
    with clock_shifted(2 * HOUR + 1):
        tick()  # the task of the first instant is not over: this one waits
        waiting = Firing.objects.get(schedule=schedule, outcome="waiting")
        assert [kind for kind, _ in told(tenant=make_tenant("default"))] == ["schedule.fired"]
    with clock_shifted(2 * HOUR + 95):
        tick()
    waiting.refresh_from_db()
    assert waiting.outcome == "missed"
    missed = Event.objects.get(type="schedule.missed").data
    assert missed is not None
    assert datetime.fromisoformat(missed["nominal_at"]) == waiting.nominal_at
    assert missed["reason"] == waiting.reason != ""


def test_a_firing_that_is_rolled_back_is_told_to_nobody() -> None:
    make_schedule(every(10))
    with transaction.atomic():
        with clock_shifted(11):
            tick()
        assert Event.objects.filter(type="schedule.fired").exists()
        transaction.set_rollback(True)
    assert not Event.objects.exists()


def test_events_of_no_task_leave_with_their_place_in_the_feed() -> None:
    pause_and_resume()
    sequence()
    tasks = Event.objects.filter(task__isnull=False).count()
    step = PruneFeed(retention_hours=72)
    turn = StepTurn(now=0.0, healthy_seconds=1e9)
    with connection.cursor() as cursor:
        step.run_once(cursor, turn)
        assert Event.objects.filter(task__isnull=True).count() == 2
        with clock_shifted(73 * HOUR):
            step.run_once(cursor, turn)
    assert not Event.objects.filter(task__isnull=True).exists()
    assert Event.objects.count() == tasks


def run(server: Web, token: str, scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        client = httpx.AsyncClient(
            base_url=f"{server.url}/api/v1",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=20,
        )
        async with client, asyncio.timeout(60):
            await scenario(client)

    asyncio.run(main())


def make_all_kinds() -> None:
    """Make events of every kind: of the installation, and of schedules of `default`."""
    pause_and_resume()
    make_worker("default")
    make_schedule(every(HOUR), catch_up="last")
    with clock_shifted(3 * HOUR + 5):
        note_lost()
        tick()
    sequence()


async def read_stream(client: httpx.AsyncClient, query: str, count: int) -> list[SentEvent]:
    found: list[SentEvent] = []
    async with streaming(client, f"/events/stream?last_event_id=0{query}") as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


KINDS = [
    "queue.paused", "queue.resumed", "worker.online", "worker.lost", "schedule.missed",
    "schedule.missed", "schedule.fired",
]  # fmt: skip


def test_a_stream_has_them_by_name_live_and_from_before_and_nobody_gets_another_tenants(
    server: Web,
) -> None:
    make_all_kinds()
    types = "&types=" + ",".join(sorted(PLATFORM_EVENTS))

    async def owner(client: httpx.AsyncClient) -> None:
        found = await read_stream(client, types, len(KINDS))
        assert [one.type for one in found] == KINDS
        for one in found:
            validator_of("platformEvent").validate(one.data)
            assert one.data["source"] == f"/api/v1/{one.type.partition('.')[0]}s"
        assert len({one.data["id"] for one in found}) == len(KINDS)
        async with streaming(client, f"/events/stream?{types[1:]}") as events:
            reader = asyncio.ensure_future(anext(aiter(events)))
            await asyncio.to_thread(_pause_in_thread)
            assert (await reader).type == "queue.paused"

    async def stranger(client: httpx.AsyncClient) -> None:
        found = await read_stream(client, types, 5)
        assert [one.type for one in found] == [*KINDS[:4], "queue.paused"]

    run(server, make_key(make_tenant("default")), owner)
    run(server, make_key(make_tenant("stranger")), stranger)


def _pause_in_thread() -> None:
    try:
        pause_queue(caller=operator(), name="default")
        sequence()
    finally:
        connection.close()


def test_who_names_no_types_gets_events_of_tasks_alone(server: Web) -> None:
    make_all_kinds()
    last = make_task(make_tenant("default"))
    sequence()

    async def scenario(client: httpx.AsyncClient) -> None:
        found = await read_stream(client, "", 3)
        assert {one.type for one in found} == {"task.created"}
        assert found[-1].data["subject"] == str(last)

    run(server, make_key(make_tenant("default")), scenario)


@pytest.mark.parametrize(
    ("kind", "scope"), [("queue.paused", "tasks:admin"), ("schedule.fired", "schedules:write")]
)
def test_a_key_without_the_scope_is_told_which_it_needs(kind: str, scope: str) -> None:
    tenant = make_tenant("default")
    reader = Api(make_key(tenant, ["tasks:read", "webhooks:write"]))
    url = "https://93.184.216.34/hook"
    plain = reader.post("/webhooks", {"url": url}).json()
    theirs = Api(make_key(tenant)).post("/webhooks", {"url": url, "types": [kind]}).json()
    refused = [
        reader.get(f"/events/stream?types=task.failed,{kind}"),
        reader.post("/webhooks", {"url": url, "types": [kind]}),
        reader.patch(f"/webhooks/{plain['id']}", {"types": [kind]}),
        reader.patch(f"/webhooks/{theirs['id']}", {"url": "https://8.8.8.8/"}),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
        assert scope in answer.json()["detail"]
    assert reader.patch(f"/webhooks/{theirs['id']}", {"enabled": False}).status_code == 200


def test_a_watch_token_shows_tasks_alone(server: Web) -> None:
    task = make_task(make_tenant("default"))
    key = Api(make_key(make_tenant("default")))
    token = key.post(f"/tasks/{task}/watch-tokens", {}).json()["token"]

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get(f"/events/stream?types=queue.paused&token={token}")
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")

    run(server, "", scenario)


def test_a_socket_has_them_by_name_and_says_what_is_missing(server: Web) -> None:
    make_all_kinds()
    token = make_key(make_tenant("default"))
    reader = make_key(make_tenant("default"), ["tasks:read"])

    async def scenario() -> None:
        async with opened(server, token) as socket:
            await socket.subscribe(1, types=sorted(PLATFORM_EVENTS), after="0")
            found = await socket.events(len(KINDS))
            assert [event["type"] for _, event in found] == KINDS
        async with opened(server, reader) as socket:
            refused = await socket.ask("subscribe", id=1, types=["worker.lost"])
            assert (refused["op"], refused["code"]) == ("error", "scope_missing")
            assert "tasks:admin" in refused["detail"]

    asyncio.run(scenario())


def test_webhooks_get_them_by_name_each_tenant_its_own(settings: Any) -> None:
    settings.TASKMILL_WEBHOOKS = LOCAL
    mine, other = make_tenant("default"), make_tenant("stranger")
    types = ["queue.paused", "schedule.fired"]
    with receiver() as shop:
        _, secret = make_endpoint(mine, f"{shop.url}/mine", types=types)
        make_endpoint(other, f"{shop.url}/other", types=types)
        make_endpoint(mine, f"{shop.url}/usual")
        make_endpoint(mine, f"{shop.url}/tags", types=types, tags=["vip"])
        make_all_kinds()
        with running_webhooks():
            wait_for(lambda: WebhookDelivery.objects.filter(state="delivered").count() == 5)
        found = sorted((one.path, one.event["type"]) for one in shop.received)
        own = [one.verified(secret) for one in shop.received if one.path == "/hook/mine"]
    usual = ("/hook/usual", "task.created")
    assert found == [
        ("/hook/mine", "queue.paused"), ("/hook/mine", "schedule.fired"),
        ("/hook/other", "queue.paused"), usual, usual,
    ]  # fmt: skip
    paused = next(one for one in own if one["type"] == "queue.paused")
    assert paused["subject"] == "default"
    assert paused["data"] == {"actor": "admin:ann", "reason": "deploy"}
    owners = WebhookDelivery.objects.filter(event_type="queue.paused")
    assert set(owners.values_list("tenant_id", flat=True)) == {mine.pk, other.pk}
