"""A crowd watches by every transport while its servers are killed: nobody misses anything.

Two web processes and the leading engine are killed (SIGKILL) while concurrent transactions commit
out of order; every fifth client hangs up at random and resumes. What was committed is read from the
history of the tasks. Who watches by cursor (WebSocket, SSE) gets each event once, in order;
webhooks and MQTT may say one twice after a kill; SignalR tells the newest progress and the end.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from django.db import connection

from tasks_app.feed import FINAL_EVENTS, PUBLIC_EVENTS
from tasks_app.models import Tenant
from tests.crowd.clients import Crowd, SignalRWatcher, SseWatcher, Watcher, WebSocketWatcher
from tests.crowd.truth import PROGRESS, Step, Story, gaps, read_truth
from tests.crowd.writers import GROUPS, Writer, new_task
from tests.engines import start_engine
from tests.factories import make_key, make_tenant
from tests.mosquitto import Mosquitto, Subscriber, running_mosquitto, subscriber
from tests.processes import wait_for
from tests.receivers import Receiver, receiver
from tests.web import free_port, start_web
from tests.webhooks import LOCAL, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)

LOOPS = ("--only", "relay,webhooks,webhooks-send,mqtt")
HOOKED = frozenset({"task.created", *FINAL_EVENTS})


@dataclass(frozen=True)
class Size:
    """How many watch, and how much happens between two kills."""

    websockets: int
    streams: int
    hubs: int
    receivers: int
    writers: int = 4
    pace: float = 0.4
    events_between: int = 60
    latecomers: int = 4
    rounds: int = 1


SHORT = Size(websockets=30, streams=12, hubs=4, receivers=1)
LONG = Size(
    websockets=133,
    streams=50,
    hubs=12,
    receivers=4,
    events_between=300,
    latecomers=12,
    rounds=2,
)


def make_watcher(
    place: int,
    *,
    kind: str,
    urls: Sequence[str],
    tenant: Tenant,
    token: str,
    tasks: Sequence[str],
) -> Watcher:
    """Give a client: every fifth is flaky, and what it asks for goes round; of its tenant alone it
    is to hear.
    """
    is_flaky = place % 5 == 0
    own = random.Random(place).sample(list(tasks), 8)
    if kind == "signalr":
        return SignalRWatcher(urls, token, own, is_flaky=is_flaky)
    group = f"group-{place % GROUPS}"
    asked: list[tuple[dict[str, list[str]], Callable[[Story], bool]]] = [
        ({}, lambda _story: True),
        ({"tags": [group]}, lambda story: group in story.tags),
        ({"tasks": own}, lambda story: story.id in own),
        ({"tags": [group]}, lambda story: group in story.tags),
    ]
    asks, like = asked[place % 4]

    def wish(story: Story) -> bool:
        return story.tenant_id == tenant.pk and like(story)

    made = WebSocketWatcher if kind == "websocket" else SseWatcher
    begins_at_zero = "tasks" not in asks or place % 8 < 4
    return made(urls, token, wish, is_flaky=is_flaky, asks=asks, begins_at_zero=begins_at_zero)


class Platform:
    """Two web processes and two engines under fire."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self._ports = [free_port(), free_port()]
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports]
        self.webs = [start_web(port=port, **variables) for port in self._ports]
        self.engines = [start_engine(*LOOPS, **variables) for _ in self._ports]

    def wait_until_up(self) -> None:
        """Wait until every process is at work; the machine may be busy."""
        wait_for(lambda: all(one.is_up() for one in self.webs), seconds=120)
        wait_for(lambda: self._leader_pid() in {one.pid for one in self.engines}, seconds=120)

    def kill_web(self, place: int) -> None:
        """SIGKILL a web process, while the other serves, and start another on its port."""
        wait_for(self.webs[1 - place].is_up, seconds=120)
        self.webs[place].process.kill()
        self.webs[place] = start_web(port=self._ports[place], **self._variables)

    def kill_leader(self) -> None:
        """SIGKILL the engine that leads the relay, and start another as a standby."""
        [leader] = [one for one in self.engines if one.pid == self._leader_pid()]
        leader.kill()
        self.engines.remove(leader)
        wait_for(lambda: self._leader_pid() in {one.pid for one in self.engines}, seconds=120)
        self.engines.append(start_engine(*LOOPS, **self._variables))

    def stop(self) -> None:
        """Kill everything."""
        for process in (*(one.process for one in self.webs), *self.engines):
            if process.popen.poll() is None:
                process.kill()

    @staticmethod
    def _leader_pid() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT holder FROM taskmill_leader WHERE loop = 'relay'")
            row = cursor.fetchone()
        return int(row[0].split(":")[-2]) if row else 0


def start_platform(mosquitto: Mosquitto) -> Platform:
    """Start the processes."""
    return Platform(
        {
            "TASKMILL_LEADER_LEASE_SECONDS": "1",
            "TASKMILL_RATE_LIMIT": "",
            "TASKMILL_WEBHOOK_ALLOW": "127.0.0.0/8",
            "TASKMILL_WEBHOOK_TOTAL_SECONDS": "2",
            "TASKMILL_STREAM_HEARTBEAT_SECONDS": "1",
            "MQTT_URL": mosquitto.url(),
            "TASKMILL_LOG_LEVEL": "WARNING",
        }
    )


def in_feed() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(last_sequence), 0) FROM taskmill_feed")
        return int(cursor.fetchone()[0])


def is_all_in_feed() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM taskmill_event")
        return bool(cursor.fetchone()[0] == in_feed())


def hook_faults(shop: Receiver, secret: str, truth: dict[str, Story]) -> list[str]:
    """Each event came, perhaps twice and then under the same id; signed."""
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for one in list(shop.received):
        ids[one.event["id"]].add(one.id)
    expected = {f"{story.id}.{step.seq}" for story in truth.values() for step in story.of(HOOKED)}
    found = [f"webhooks: no {event}" for event in sorted(expected - ids.keys())]
    found += [f"webhooks: never committed: {event}" for event in sorted(ids.keys() - expected)]
    found += [f"webhooks: {event} has {some}" for event, some in ids.items() if len(some) > 1]
    if shop.received:
        shop.received[-1].verified(secret)
    return found


def mqtt_faults(client: Subscriber, truth: dict[str, Story]) -> list[str]:
    """Of each task every status came in order, but for what was sent again; the end is retained."""
    got: defaultdict[str, list[Step]] = defaultdict(list)
    newest: defaultdict[str, int] = defaultdict(int)
    for message in client.heard():
        if not message.topic.startswith(("task/status/", "task/progress/")):
            continue
        if message.topic.startswith("task/status/status/"):
            continue
        body = message.body
        if body["sequence"] > newest[body["task_id"]]:
            newest[body["task_id"]] = body["sequence"]
            got[body["task_id"]].append(Step(body["seq"], body["event"]))
    found = [f"mqtt: never committed: {task}" for task in got.keys() - truth.keys()]
    for story in truth.values():
        wrong = gaps(story.of(PUBLIC_EVENTS | {PROGRESS}), got[story.id])
        found += [f"mqtt {story.id}: {what}" for what in wrong]
    return found


class Audience:
    """All who watch: the crowd, which comes in two parts, the receivers and a phone; and clients of
    a neighbour.
    """

    def __init__(
        self,
        size: Size,
        stack: ExitStack,
        tenant: Tenant,
        neighbour: Tenant,
        tasks: Sequence[str],
    ) -> None:
        self._tenant_id = tenant.pk
        self.broker = stack.enter_context(running_mosquitto())
        self._phone = stack.enter_context(subscriber(self.broker, "task/#"))
        self._shops = [stack.enter_context(receiver()) for _ in range(size.receivers)]
        self._secrets = [
            make_endpoint(tenant, one.url, types=sorted(HOOKED))[1] for one in self._shops
        ]
        self.servers = start_platform(self.broker)
        stack.callback(self.servers.stop)
        self.servers.wait_until_up()
        given: dict[str, Any] = {"urls": self.servers.urls, "tasks": tasks}
        make = partial(make_watcher, tenant=tenant, token=make_key(tenant), **given)
        make_other = partial(make_watcher, tenant=neighbour, token=make_key(neighbour), **given)
        sockets = [make(n, kind="websocket") for n in range(size.websockets)]
        others = [make(n, kind="sse") for n in range(size.streams)]
        others += [make(n, kind="signalr") for n in range(size.hubs)]
        others += [make_other(4, kind=kind) for kind in ("websocket", "sse")]
        self.early = Crowd([*others, *sockets[size.latecomers :]])
        self.late = Crowd(sockets[: size.latecomers])
        stack.callback(self.stop)

    @property
    def watchers(self) -> list[Watcher]:
        return [*self.early.watchers, *self.late.watchers]

    def stop(self) -> None:
        """Let all hang up."""
        for crowd in (self.early, self.late):
            crowd.stop()
            assert crowd.faults == []

    def outside_faults(self, truth: dict[str, Story]) -> list[str]:
        """Say what receivers and phone lack, or have and should not."""
        truth = {name: one for name, one in truth.items() if one.tenant_id == self._tenant_id}
        shops = zip(self._shops, self._secrets, strict=True)
        found = [what for shop, secret in shops for what in hook_faults(shop, secret, truth)]
        return found + mqtt_faults(self._phone, truth)


def watch_and_kill(size: Size) -> None:
    """Let the crowd watch, kill what serves it, and judge what everybody got: all that is of their
    tenant, and nothing of a neighbour's tasks, which have the same types and tags.
    """
    tenant, neighbour = make_tenant("default"), make_tenant("neighbour")
    writers = [Writer(number, tenant.pk, pace=size.pace) for number in range(size.writers)]
    with connection.cursor() as cursor:
        tasks = [
            str(new_task(cursor, tenant.pk, queue=writers[n % len(writers)].queue, group=n))
            for n in range(24)
        ]
        writers.append(Writer(size.writers, neighbour.pk, pace=size.pace))
        new_task(cursor, neighbour.pk, queue=writers[-1].queue, group=0)
    with ExitStack() as stack:
        audience = Audience(size, stack, tenant, neighbour, tasks)
        servers = audience.servers
        audience.early.start()
        wait_for(lambda: all(one.has_begun for one in audience.early.watchers), seconds=120)
        for writer in writers:
            writer.start()
        kills = [servers.kill_leader, partial(servers.kill_web, 0), partial(servers.kill_web, 1)]
        for number, kill in enumerate(kills * size.rounds):
            wait_for_events(size.events_between)
            kill()
            if number == 0:
                audience.late.start()
        wait_for_events(size.events_between)
        # together: one whose tasks have all ended hears nothing more that it could hang up on
        least = 2 * len(flaky(audience))
        wait_for(lambda: sum(one.connections for one in flaky(audience)) > least, seconds=120)
        for writer in writers:
            writer.finish()
        for writer in writers:
            writer.join(120)
            assert writer.fault is None, writer.fault
            assert not writer.is_alive()
        for one in audience.watchers:
            one.has_settled = True
        judge(read_truth(), audience)
        audience.stop()


def flaky(audience: Audience) -> list[Watcher]:
    return [one for one in audience.watchers if one.is_flaky]


def wait_for_events(count: int) -> None:
    """Wait until so many more events are in the feed."""
    until = in_feed() + count
    wait_for(lambda: in_feed() >= until, seconds=120, reason="the feed stands still")


def judge(truth: dict[str, Story], audience: Audience) -> None:
    """Wait until everybody has everything; say who lacks what."""
    watchers = audience.watchers
    waiting = {id(one): one for one in watchers}

    def is_complete() -> bool:
        for name, one in list(waiting.items()):
            if one.wrong or not one.faults(truth):
                del waiting[name]
        return not waiting

    wrong: list[str] = []
    try:
        wait_for(is_all_in_feed, seconds=20, reason="the feed never has all events")
        wait_for(is_complete, seconds=60, reason="a client never has all")
        wait_for(lambda: not audience.outside_faults(truth), seconds=60, reason="others lack some")
    except AssertionError as error:
        wrong.append(str(error)[:200])
    for number, one in enumerate(watchers):
        wrong += [f"{one.transport} {number}: {what}" for what in one.faults(truth)[:3]]
    wrong += audience.outside_faults(truth)[:10]
    assert wrong == [], "\n".join(wrong[:30])
    steps = sum(len(story.steps) for story in truth.values())
    connections = sum(one.connections for one in watchers)
    print(f"{len(truth)} tasks, {steps} events, {len(watchers)} clients, {connections} connections")


@pytest.fixture(autouse=True)
def local_webhooks(settings: Any) -> None:
    settings.TASKMILL_WEBHOOKS = LOCAL


def test_a_crowd_on_every_transport_loses_nothing_while_its_servers_are_killed(
    valkey: Any,
) -> None:
    watch_and_kill(SHORT)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_two_hundred_clients_lose_nothing_while_their_servers_are_killed(valkey: Any) -> None:
    watch_and_kill(LONG)
