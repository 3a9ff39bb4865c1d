"""`/metrics`: what Prometheus reads, who may read it, and that it stays cheap."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from django.db import connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

import tests.task_handlers  # noqa: F401 - registers the types
from notifications.webhooks.services import EndpointWish, create_endpoint
from scheduler.public import pause_schedule, run_now
from tasks_app.conf import conf
from tasks_app.metrics import PROCESS_METRICS, MetricSource, Sample, declare_metrics, metric_sources
from tasks_app.platform import SinkWork
from tasks_app.selectors import measures
from tasks_app.services.measuring import SOURCE_UP, forget_metrics, read_metrics
from tests.beats import caller, clock_shifted, every, make_schedule, tick
from tests.engines import running_loop
from tests.factories import make_key, make_task, make_tenant, make_worker
from tests.processes import wait_for
from tests.relays import relay
from tests.sockets import opened
from tests.web import Web, streaming, web
from tests.webhooks import caller_of

pytestmark = pytest.mark.django_db(transaction=True)

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def server(valkey: Any, django_db_setup: None) -> Iterator[Web]:
    with web() as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    forget_metrics()


def figures(text: str) -> Figures:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def one(found: Figures, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def scrape(server: Web, token: str = "", **headers: str) -> httpx.Response:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.get(f"{server.url}/metrics", headers=headers, timeout=20)


def read() -> Figures:
    """What a scrape would show of the installation, read here and now."""
    forget_metrics()
    return {
        (
            sample.metric.name,
            tuple(sorted(zip(sample.metric.labels, sample.labels, strict=True))),
        ): float(sample.value)
        for sample in read_metrics()
    }


def test_prometheus_reads_the_installation_and_the_process_with_a_bearer_token(
    server: Web,
) -> None:
    acme = make_tenant("acme")
    make_task(acme, queue="orders")
    make_worker("orders", slots=3)
    make_task(acme, queue="nobody", state="failed")
    make_task(acme, queue="nobody")
    answer = scrape(server, make_key(acme, ["metrics:read"]))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = figures(answer.text)
    assert one(found, "taskmill_tasks", queue="orders", state="queued") == 1
    assert one(found, "taskmill_workers", status="online") == 1
    assert one(found, "taskmill_worker_slots") == 3
    assert one(found, "taskmill_leader", loop="relay") == 0
    assert one(found, "taskmill_beats") == 0
    assert one(found, "process_resident_memory_bytes") > 1e6
    shown = {name for name, _ in found}
    declared = {metric.name for source in metric_sources() for metric in source.metrics}
    sinks = {"taskmill_sink_lag_events", "taskmill_sink_lag_seconds"}
    canaries = {"taskmill_canary_delay_seconds", "taskmill_canary_silent_seconds"}
    steps = {"taskmill_step_failures", "taskmill_step_failing"}
    assert declared - shown == sinks | canaries | steps, "a sink shows when it has a cursor"
    open_text = "application/openmetrics-text; version=1.0.0"
    modern = scrape(server, make_key(acme, ["metrics:read"]), Accept=open_text)
    assert modern.headers["content-type"].startswith(open_text)
    assert modern.text.endswith("# EOF\n")


def test_a_key_without_the_scope_reads_nothing_and_a_scrape_needs_no_known_host(
    server: Web,
) -> None:
    assert scrape(server).status_code == 401
    refused = scrape(server, make_key(make_tenant(), ["tasks:read", "tasks:admin"]))
    assert (refused.status_code, refused.json()["scope"]) == (403, "metrics:read")
    by_address = scrape(server, make_key(make_tenant(), ["metrics:read"]), Host="10.2.3.4:8000")
    assert by_address.status_code == 200


def test_an_installation_may_show_its_figures_to_whoever_reaches_it(
    client: Client, settings: Any
) -> None:
    assert client.get("/metrics").status_code == 401
    settings.TASKMILL = replace(conf(), metrics_access="open")
    assert client.get("/metrics").status_code == 200


def test_the_feed_lags_until_the_relay_has_been_there_and_a_sink_until_it_has_handed_on() -> None:
    make_task()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_event SET at = at - interval '70 s'")
    found = read()
    assert 70 <= one(found, "taskmill_feed_lag_seconds") < 100
    assert one(found, "taskmill_feed_last_sequence") == 0
    with relay() as sequencer:
        sequencer.drain()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_feed SET at = at - interval '50 s'")
        cursor.execute(
            "INSERT INTO taskmill_feed_cursor VALUES ('webhooks', 0, taskmill_now()),"
            " ('turned-off', 0, taskmill_now())"
        )
    found = read()
    assert one(found, "taskmill_feed_lag_seconds") == 0
    assert one(found, "taskmill_feed_last_sequence") == 1
    assert one(found, "taskmill_sink_lag_events", sink="webhooks") == 1
    assert 50 <= one(found, "taskmill_sink_lag_seconds", sink="webhooks") < 80
    assert ("taskmill_sink_lag_events", (("sink", "turned-off"),)) not in found
    from notifications.webhooks.sink import WebhookSink

    with running_loop(SinkWork(WebhookSink()), conf()):
        wait_for(lambda: one(read(), "taskmill_sink_lag_events", sink="webhooks") == 0)
        found = read()
    assert one(found, "taskmill_sink_lag_seconds", sink="webhooks") == 0
    assert one(found, "taskmill_leader", loop="webhooks") == 1


def test_an_event_that_becomes_visible_below_the_newest_counts_as_lag() -> None:
    with relay() as sequencer:
        make_task()
        make_task()
        sequencer.drain()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_feed SET ids = ids[2:], open_lows = ARRAY[ids[1]],"
            " open_highs = ARRAY[ids[1]]"
        )
        cursor.execute("UPDATE taskmill_event SET at = at - interval '40 s'")
    assert 40 <= one(read(), "taskmill_feed_lag_seconds") < 70


def test_tasks_are_counted_by_queue_and_state_and_the_oldest_of_any_priority_is_found() -> None:
    acme, other = make_tenant(), make_tenant()
    for tenant in (acme, other):
        for state in ("queued", "dispatched", "running", "cancelling", "retrying", "blocked"):
            make_task(tenant, state=state, queue="orders")
    late = make_task(acme, queue="mail", priority=-3)
    make_task(acme, queue="mail", priority=9)
    make_task(acme, state="scheduled", queue="mail")
    make_task(acme, state="success", queue="mail")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_task SET run_at = run_at - interval '90 s' WHERE id = %s", [late]
        )
    found = read()
    for state in ("queued", "dispatched", "running", "cancelling", "retrying", "blocked"):
        assert one(found, "taskmill_tasks", queue="orders", state=state) == 2
    assert one(found, "taskmill_tasks", queue="mail", state="queued") == 2
    assert one(found, "taskmill_tasks", queue="mail", state="scheduled") == 1
    assert ("taskmill_tasks", (("queue", "mail"), ("state", "success"))) not in found
    assert 90 <= one(found, "taskmill_oldest_waiting_seconds", queue="mail") < 120
    assert one(found, "taskmill_oldest_waiting_seconds", queue="orders") < 30


def test_counts_and_queues_end_at_their_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "COUNT_CAP", 3)
    monkeypatch.setattr(measures, "QUEUES_CAP", 2)
    for queue in ("a", "b", "c"):
        for _ in range(5):
            make_task(queue=queue)
    found = measures.live_tasks()
    assert found.counts == {("a", "queued"): 3, ("b", "queued"): 3}


def test_what_waits_for_webhook_receivers_is_shown(settings: Any) -> None:
    from tests.webhooks import LOCAL, sequence_events

    settings.TASKMILL_WEBHOOKS = LOCAL
    tenant = make_tenant()
    wish = EndpointWish(url="http://127.0.0.1:9/hook", types=["task.created"])
    create_endpoint(caller=caller_of(tenant), wish=wish)
    make_task(tenant)
    sequence_events()
    from notifications.webhooks.sink import WebhookSink

    with running_loop(SinkWork(WebhookSink()), conf()):
        wait_for(lambda: one(read(), "taskmill_webhook_queue", state="due") == 1)
    assert one(read(), "taskmill_webhook_queue", state="pending") == 1


def test_late_fired_and_missed_instants_of_schedules_are_counted_for_a_while() -> None:
    make_schedule(every(600), catch_up="last")
    paused = make_schedule(every(500))
    pause_schedule(caller=caller(), schedule_id=paused.id, reason="stocktaking")
    names = ("taskmill_firings", "taskmill_firing_late_seconds")
    outcomes = [(("outcome", outcome),) for outcome in ("fired", "skipped", "missed")]
    with clock_shifted(1245):
        assert 745 <= read()["taskmill_schedule_late_seconds", ()] < 1100
        tick()
        run_now(caller=caller(), schedule_id=paused.id)  # was not due, and is not counted
        found = read()
        assert [found[names[0], outcome] for outcome in outcomes] == [1, 2, 1]
        assert 45 <= found[names[1], ()] < 300
        assert found["taskmill_schedule_late_seconds", ()] == 0
    with clock_shifted(1245 + 301):
        found = read()
        assert [found[names[0], outcome] for outcome in outcomes] == [0, 0, 0]
        assert found[names[1], ()] == 0


def test_a_source_that_cannot_be_read_is_named_and_the_others_are_shown() -> None:
    from tasks_app import metrics

    broken = MetricSource(name="broken", metrics=(), read=f"{__name__}.slow_samples")
    declare_metrics(broken)
    try:
        found = read()
    finally:
        del metrics._declared["broken"]
    assert one(found, SOURCE_UP.name, source="broken") == 0
    assert one(found, SOURCE_UP.name, source="feed") == 1
    assert one(found, "taskmill_feed_last_sequence") == 0


def slow_samples() -> list[Sample]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(30)")
    return []


def test_a_reading_is_a_few_statements_and_kept(django_assert_max_num_queries: Any) -> None:
    make_task()
    with django_assert_max_num_queries(35):
        read_metrics()
    with django_assert_max_num_queries(0):
        read_metrics()


def test_open_connections_are_counted_by_transport_and_no_more_when_they_end(
    server: Web,
) -> None:
    acme = make_tenant("acme")
    token = make_key(acme)

    def open_now(transport: str) -> float:
        found = figures(scrape(server, token).text)
        return one(found, "taskmill_open_connections", transport=transport)

    async def scenario() -> None:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=f"{server.url}/api/v1", headers=headers) as client:
            async with streaming(client, "/events/stream"), opened(server, token) as socket:
                assert (await socket.ask("ping"))["op"] == "pong"
                for transport in ("sse", "websocket"):
                    await asyncio.to_thread(
                        wait_for, lambda transport=transport: open_now(transport) == 1
                    )
            for transport in ("sse", "websocket"):
                await asyncio.to_thread(
                    wait_for, lambda transport=transport: open_now(transport) == 0
                )

    asyncio.run(scenario())
    found = figures(scrape(server, token).text)
    assert one(found, "taskmill_connections_opened_total", transport="websocket") >= 1
    assert one(found, "taskmill_http_responses_total", status="2xx") >= 1


def test_every_metric_of_a_process_has_bounded_labels() -> None:
    for family in PROCESS_METRICS.collect():
        for sample in family.samples:
            assert set(sample.labels) <= {"transport", "status", "quota", "scope"}
