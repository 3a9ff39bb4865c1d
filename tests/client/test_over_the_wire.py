"""The client on the real platform while connections are lost between them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from taskmill_client import AsyncClient, Client, Event, ServerUnavailable, Task, following
from tests.acceptance.installations import Installation
from tests.client.proxies import Proxy
from tests.processes import wait_for

PROGRESS = "test.progress"


def history(client: Client, task_id: str) -> list[str]:
    found = client.request("GET", f"/tasks/{task_id}/events", params={"limit": 1000})
    return [one["id"] for one in found["results"]]


def ids(events: list[Event]) -> list[str]:
    return [one.id for one in events]


def test_a_submit_whose_answer_is_lost_after_the_commit_makes_one_task(
    client: Client, through: Client, proxy: Proxy
) -> None:
    proxy.lose_answers = 2
    task = through.tasks.submit("demo.echo", {"n": 1}, tags=["lost-answer"])
    assert proxy.cuts == 2
    assert [one.id for one in client.tasks.list(tag="lost-answer")] == [task.id]


def test_a_rerun_whose_answer_is_lost_makes_one_task(
    client: Client, through: Client, proxy: Proxy
) -> None:
    task = client.tasks.submit("demo.echo", {}, tags=["lost-rerun"])
    proxy.lose_answers = 1
    again = through.tasks.rerun(task.id)
    assert proxy.cuts == 1
    assert [one.id for one in client.tasks.list(tag="lost-rerun")] == [again.id, task.id]


def test_a_change_whose_answer_is_lost_is_made_again_and_one_of_a_version_is_not(
    client: Client, through: Client, proxy: Proxy
) -> None:
    task = client.tasks.submit("demo.echo", {}, delay=3600)
    proxy.losing = lambda head: head.startswith("PATCH")
    proxy.lose_answers = 1
    assert through.tasks.update(task.id, priority=4).priority == 4
    proxy.lose_answers = 1
    with pytest.raises(ServerUnavailable):
        through.tasks.update(task.id, priority=5, version=task.refresh().version)
    assert proxy.cuts == 2
    assert task.refresh().priority == 5
    assert task.cancel().done


def test_many_whose_answer_is_lost_are_submitted_once(
    client: Client, through: Client, proxy: Proxy
) -> None:
    item = {"type": "demo.echo", "delay": 3600, "tags": ["lost-bulk"]}
    proxy.lose_answers = 1
    found = through.tasks.submit_many([item] * 1500)
    assert proxy.cuts == 1
    assert len(set(found.ids)) == 1500
    assert {one.id for one in client.tasks.list(tag="lost-bulk")} == set(found.ids)


def test_a_post_without_a_key_is_not_repeated(
    client: Client, through: Client, proxy: Proxy
) -> None:
    proxy.lose_answers = 1
    body = {"type": "demo.echo", "tags": ["no-key"]}
    with pytest.raises(ServerUnavailable) as caught:
        through.request("POST", "/tasks", json=body)
    assert (caught.value.status, caught.value.code) == (0, "unreachable")
    assert proxy.url in str(caught.value)
    assert len(list(client.tasks.list(tag="no-key"))) == 1


def test_events_over_cut_connections_come_once_in_order_and_all(
    client: Client, through: Client, proxy: Proxy, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    payload = {"reports": 40, "hold_at": 20, "path": str(gate)}
    task = client.tasks.submit(PROGRESS, payload, delay=2)  # the stream is open before it runs
    proxy.cut_after = 1900  # within a message, whatever their lengths are
    seen: list[Event] = []
    is_released = False
    for event in through.tasks.events(task.id):
        seen.append(event)
        if event.type == "task.progress" and not is_released:
            wait_for(gate.exists)
            proxy.cut()
            gate.unlink()
            is_released = True
    assert ids(seen) == history(client, task.id)
    assert [one.sequence for one in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].type == "task.succeeded"
    assert proxy.cuts >= 1
    assert is_released


def test_a_cut_stream_is_resumed_and_not_begun_anew(
    client: Client, through: Client, proxy: Proxy, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    task = client.tasks.submit(PROGRESS, {"reports": 3, "hold_at": 1, "path": str(gate)})
    events = through.tasks.events(task.id)
    assert next(events).type == "task.created"
    wait_for(gate.exists)
    known = next(event.sequence for event in events if event.type == "task.started")
    events.close()
    gate.unlink()
    rest = list(through.tasks.events(task.id, after=known))
    assert ids(rest) == history(client, task.id)[known:]


def test_where_streams_are_held_back_events_are_polled_for(
    client: Client, through: Client, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SILENCE_SECONDS", 0.5)
    proxy.is_holding_streams = True
    gate = tmp_path / "gate"
    task = client.tasks.submit(PROGRESS, {"reports": 6, "hold_at": 3, "path": str(gate)})
    seen: list[Event] = []

    def read() -> None:
        seen.extend(through.tasks.events(task.id))

    reading = threading.Thread(target=read)
    reading.start()
    wait_for(lambda: gate.exists() and any("/stream" in head for head in proxy.heads))
    wait_for(lambda: proxy.heads[-1].startswith(f"GET /api/v1/tasks/{task.id} "))
    gate.unlink()
    reading.join(60)
    assert ids(seen) == history(client, task.id)
    assert sum("/stream" in head for head in proxy.heads) == 1


@pytest.mark.parametrize("status", [429, 502, 404])
def test_where_streams_are_refused_events_are_polled_for(
    client: Client, through: Client, proxy: Proxy, status: int
) -> None:
    proxy.refuse_streams = status
    task = client.tasks.submit("demo.echo", {}, delay=2)
    assert ids(list(through.tasks.events(task.id))) == history(client, task.id)
    assert sum("/stream" in head for head in proxy.heads) == (4 if status == 502 else 1)


def test_a_wait_tells_of_progress(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate"
    task = client.tasks.submit(PROGRESS, {"reports": 4, "hold_at": 1, "path": str(gate)})
    seen: list[tuple[str, float, str]] = []
    versions: list[int] = []

    def note(one: Task) -> None:
        seen.append((one.status, one.progress.percent, one.progress.message))
        versions.append(one.version)
        if one.progress.message == "at 1" and seen.count(seen[-1]) == 1:
            assert (one.progress.current, one.progress.total) == (1, None)
            wait_for(gate.exists)
            gate.unlink()

    done = client.tasks.wait(task.id, timeout=60, on_progress=note)
    assert ("processing", 25.0, "at 1") in seen
    assert seen[-1] == ("success", 100.0, "last words")
    assert versions == sorted(set(versions))
    assert done.succeeded
    assert client.tasks.get(task.id).wait(progress=True).succeeded
    assert capsys.readouterr().err == "test.progress  success  100 %  last words\n"


def test_closing_the_iteration_closes_the_connection(
    client: Client, through: Client, proxy: Proxy
) -> None:
    task = client.tasks.submit("demo.echo", delay=3600)
    events = through.tasks.events(task.id)
    seen = [next(events)]
    reading = threading.Thread(target=lambda: seen.extend(events))
    reading.start()
    wait_for(lambda: proxy.open_streams == 1)
    client.tasks.cancel(task.id)
    reading.join(30)
    assert seen[-1].type == "task.cancelled"
    wait_for(lambda: proxy.open_streams == 0)


def test_leaving_a_loop_over_events_closes_its_stream(
    client: Client, through: Client, proxy: Proxy, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    payload = {"reports": 4, "hold_at": 1, "path": str(gate)}
    task = client.tasks.submit(PROGRESS, payload, delay=2)
    for event in through.tasks.events(task.id):
        if event.type == "task.started":
            assert proxy.open_streams == 1
            break
    wait_for(lambda: proxy.open_streams == 0)
    wait_for(gate.exists)
    gate.unlink()


def test_the_asynchronous_client_does_the_same(
    installation: Installation, client: Client, proxy: Proxy, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    token = installation.credentials()["token"]

    async def scenario() -> tuple[Any, list[Event]]:
        async with AsyncClient(proxy.url, token) as one:
            proxy.lose_answers = 1
            payload = {"reports": 4, "hold_at": 1, "path": str(gate)}
            task = await one.tasks.submit(PROGRESS, payload, delay=2, tags=["async"])
            seen = []
            async with aclosing(task.events()) as events:
                async for event in events:
                    seen.append(event)
                    if event.type == "task.started":
                        assert proxy.open_streams == 1
                        break
            await asyncio.to_thread(wait_for, lambda: proxy.open_streams == 0)
            await asyncio.to_thread(wait_for, gate.exists)
            gate.unlink()
            seen += [event async for event in task.events(after=seen[-1].sequence)]
            done = await task.wait(raise_on_failure=True)
            assert [found.id async for found in one.tasks.list(tag="async")] == [done.id]
            return done, seen

    task, seen = asyncio.run(scenario())
    assert task.status == "success"
    assert ids(seen) == history(client, task.id)


@pytest.fixture
def own() -> Iterator[Installation]:
    """An installation that is restarted."""
    made = Installation(TASKMILL_HANDLER_MODULES="tests.handlers")
    try:
        made.start()
        yield made
    finally:
        made.remove()


def test_a_wait_and_an_iteration_outlive_a_restart_of_the_server(own: Installation) -> None:
    with Client(own.url, own.credentials()["token"], retries=0) as client:
        task = client.tasks.submit("demo.echo", {"n": 2}, delay=8)
        found: dict[str, Any] = {}

        def wait() -> None:
            found["task"] = client.tasks.wait(task.id, timeout=120)

        def read() -> None:
            found["events"] = list(client.tasks.events(task.id))

        threads = [threading.Thread(target=one) for one in (wait, read)]
        for one in threads:
            one.start()
        assert own.end() == 0
        own.start()
        for one in threads:
            one.join(120)
        assert found["task"].result == {"n": 2}
        assert ids(found["events"]) == history(client, task.id)
        own.end()
