"""The stock `@microsoft/signalr` client under Node, running the how-to's code as it stands."""

from __future__ import annotations

import re
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tasks_app.progress import save_progress
from tasks_app.services.keys import revoke_api_key
from tasks_app.services.watch import Watch, make_watch_token
from tasks_app.states import State
from tests import factories
from tests.factories import drive, make_key, make_task, make_tenant, task_column
from tests.node_clients import node_client, node_package
from tests.processes import ROOT
from tests.relays import relay
from tests.web import Web, free_port, web

pytestmark = pytest.mark.django_db(transaction=True)

HOW_TO = ROOT / "docs" / "how-to" / "watch-live-with-signalr.md"
SOURCE = ROOT / "tests" / "signalr"


@pytest.fixture(scope="module")
def script() -> Path:
    """The driver beside the how-to's module and the installed package."""
    place = node_package(SOURCE)
    found = re.search(r"^```javascript\n(.*?)^```", HOW_TO.read_text(), flags=re.M | re.S)
    assert found is not None
    (place / "watch-tasks.mjs").write_text(found[1])
    return Path(shutil.copy(SOURCE / "driver.mjs", place))


@pytest.fixture(scope="module")
def server(django_db_setup: None, valkey: Any) -> Iterator[Web]:
    with web() as found:
        yield found


def sequence() -> None:
    with relay() as one:
        one.drain()


def report(task_id: uuid.UUID, percent: float, message: str) -> None:
    with connection.cursor() as cursor:
        epoch = task_column(task_id, "epoch")
        save_progress(cursor, task_id, epoch=epoch, percent=percent, message=message, detail=None)
    sequence()


def finish(task_id: uuid.UUID, state: str) -> None:
    factories._finish(task_id, task_column(task_id, "epoch"), State(state))
    sequence()


def test_a_stock_client_sees_progress_and_the_result(server: Web, script: Path) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme, state="running")
    report(task_id, 10, "begun")
    options = {"url": server.url, "token": make_key(acme), "taskIds": [str(task_id)]}
    with node_client(script, **options) as client:
        assert client.until("progress")[-1] == {
            "kind": "progress",
            "taskId": str(task_id),
            "progress": 10,
            "message": "begun",
        }
        report(task_id, 55.5, "half \x1e way")
        assert client.until("progress")[-1] == {
            "kind": "progress",
            "taskId": str(task_id),
            "progress": 55.5,
            "message": "half \x1e way",
        }
        finish(task_id, "success")
        ends = client.rest()
    assert {"kind": "completed", "taskId": str(task_id), "result": {"ok": True}} in ends


def test_every_end_but_success_is_a_failure_with_its_status(server: Web, script: Path) -> None:
    acme = make_tenant("acme")
    live = {state: make_task(acme, state="running") for state in ("failed", "cancelled", "error")}
    done = {state: make_task(acme, state=state) for state in ("timeout", "cancelled", "failed")}
    sequence()
    task_ids = [str(one) for one in (*live.values(), *done.values())]
    options = {"url": server.url, "token": make_key(acme), "taskIds": task_ids}
    with node_client(script, **options) as client:
        seen = client.until("connected")
        for state, task_id in live.items():
            finish(task_id, state)
        seen += client.rest()
    failed = {one["taskId"]: one["error"] for one in seen if one["kind"] == "failed"}
    assert {one: error["status"] for one, error in failed.items()} == {
        str(task_id): state for part in (live, done) for state, task_id in part.items()
    }
    assert failed[str(live["failed"])]["code"] == "HANDLER_ERROR"
    assert failed[str(live["failed"])]["message"] == "no"
    assert failed[str(live["cancelled"])] == failed[str(done["cancelled"])]
    assert failed[str(live["cancelled"])]["code"] == "CANCELLED"
    assert "secret" not in str(seen)


def test_an_unknown_task_and_another_tenant_s_are_refused(server: Web, script: Path) -> None:
    foreign = make_task(make_tenant("other"))
    token = make_key(make_tenant("acme"))
    for task_id in (uuid.uuid4(), foreign, "../tasks"):
        options = {"url": server.url, "token": token, "taskIds": [str(task_id)]}
        with node_client(script, **options) as client:
            (refused,) = client.rest()
        assert refused["kind"] == "refused"
        assert "task_not_found: There is no such task" in refused["error"]


def test_nothing_comes_of_a_task_that_was_left(server: Web, script: Path) -> None:
    acme = make_tenant("acme")
    kept, left = make_task(acme, state="running"), make_task(acme, state="running")
    sequence()
    options = {
        "url": server.url,
        "token": make_key(acme),
        "taskIds": [str(kept), str(left)],
        "leave": str(left),
    }
    with node_client(script, **options) as client:
        error = client.until("error")[-1]
        assert "there is no method NoSuchMethod" in error["error"]
        client.until("left")
        finish(left, "success")
        finish(kept, "success")
        assert client.until("completed")[-1]["taskId"] == str(kept)


def test_a_client_reconnects_to_a_restarted_server_and_misses_no_end(
    valkey: Any, script: Path
) -> None:
    acme = make_tenant("acme")
    during, after = make_task(acme, state="running"), make_task(acme, state="running")
    sequence()
    port = free_port()
    options = {"token": make_key(acme), "taskIds": [str(during), str(after)]}
    with web(port=port) as first, node_client(script, url=first.url, **options) as client:
        client.until("connected")
        assert first.process.stop(seconds=15) in {0, -signal.SIGTERM}
        client.until("reconnecting")
        finish(during, "success")
        with web(port=port):
            seen = client.until("reconnected")
            while not any(one["kind"] == "completed" for one in seen):
                seen += client.until("completed")
            finish(after, "failed")
            seen += client.rest()
    ends = [(one["kind"], one["taskId"]) for one in seen if one["kind"] in {"completed", "failed"}]
    assert ends == [("completed", str(during)), ("failed", str(after))]


def test_wrong_tokens_are_refused_at_both_doors(server: Web, script: Path) -> None:
    task_id = make_task(make_tenant("acme"))
    no_scope = make_key(make_tenant("acme"), scopes=("tasks:submit",))
    for token, status in (("tm_live_00000000_" + "0" * 32, "401"), (no_scope, "403")):
        for skips in (False, True):
            options = {"url": server.url, "token": token, "taskIds": [str(task_id)]}
            with node_client(script, **options, skipNegotiation=skips) as client:
                (refused,) = client.rest()
            assert refused["kind"] == "refused"
            assert skips or status in refused["error"]


def test_a_watch_token_shows_its_task_alone(server: Web, script: Path) -> None:
    acme = make_tenant("acme")
    watched, other = make_task(acme, state="success"), make_task(acme, state="success")
    key_id = make_key(acme).split("_")[2]
    token, _ = make_watch_token(Watch(tenant_id=acme.id, key_id=key_id, task_id=watched))
    with node_client(script, url=server.url, token=token, taskIds=[str(watched)]) as client:
        assert {one["kind"] for one in client.rest()} >= {"completed"}
    with node_client(script, url=server.url, token=token, taskIds=[str(other)]) as client:
        assert "task_not_found" in client.rest()[0]["error"]


def test_a_revoked_key_closes_its_connection_for_good(server: Web, script: Path) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme)
    token = make_key(acme)
    with node_client(script, url=server.url, token=token, taskIds=[str(task_id)]) as client:
        client.until("connected")
        revoke_api_key(key_id=token.split("_")[2])
        seen = client.rest()
    assert [one["kind"] for one in seen if one["kind"] != "progress"] == ["closed"]
    assert "not in force any more" in seen[-1]["error"]


def test_two_connections_that_ask_for_the_same_task_both_see_it(server: Web, script: Path) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme, state="running")
    sequence()
    options = {"url": server.url, "token": make_key(acme), "taskIds": [str(task_id)]}
    with node_client(script, **options) as one, node_client(script, **options) as two:
        one.until("connected")
        two.until("connected")
        finish(task_id, "success")
        for client in (one, two):
            assert client.until("completed")[-1]["result"] == {"ok": True}


def test_a_done_task_is_told_to_whoever_comes_late(server: Web, script: Path) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme)
    drive(task_id, "success")
    options = {"url": server.url, "token": make_key(acme), "taskIds": [str(task_id)]}
    with node_client(script, **options) as client:
        assert {"kind": "completed", "taskId": str(task_id), "result": {"ok": True}} in (
            client.rest()
        )
