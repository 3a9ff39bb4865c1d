"""The shipped configuration of nginx, in front of a web process: what clients need goes through."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.factories import make_key, make_task, make_tenant
from tests.integration.test_websocket import in_thread, run, sequence, step
from tests.nginx import Nginx, running_nginx
from tests.sockets import opened
from tests.web import Web, free_port, streaming, web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def behind(
    valkey: Any, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Nginx, Web]]:
    port = free_port()
    with ExitStack() as stack:
        proxy = stack.enter_context(running_nginx(tmp_path_factory.mktemp("nginx"), web_port=port))
        variables = {
            "TASKMILL_PUBLIC_URL": proxy.url,
            "TASKMILL_ALLOWED_HOSTS": "localhost,127.0.0.1",
            "TASKMILL_BEHIND_PROXY": "1",
        }
        yield proxy, stack.enter_context(web(port=port, **variables))


@pytest.fixture
def proxy(behind: tuple[Nginx, Web]) -> Nginx:
    return behind[0]


@pytest.fixture
def options(proxy: Nginx) -> dict[str, Any]:
    """What an HTTP client needs to come in as a tenant."""
    return {
        "base_url": f"{proxy.url}/api/v1",
        "headers": {"Authorization": f"Bearer {make_key(make_tenant('acme'))}"},
        "verify": trusting(proxy),
        "timeout": 30,
    }


def trusting(proxy: Nginx) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(proxy.certificate))


def test_calls_go_through_and_links_lead_back_through_it(
    proxy: Nginx, options: dict[str, Any]
) -> None:
    with httpx.Client(**options) as client:
        made = client.post("/tasks", json={"type": "demo.echo", "payload": {}})
        assert made.status_code == 202, made.text
        problem = client.get("/tasks/nothing")
    assert problem.json()["type"].startswith(f"{proxy.url}/")
    assert made.headers["strict-transport-security"].startswith("max-age=")


def test_a_client_cannot_say_that_it_came_by_plain_http(
    options: dict[str, Any], behind: tuple[Nginx, Web]
) -> None:
    with httpx.Client(**options) as client:
        claimed = {"X-Forwarded-Proto": "http"}
        assert client.get("/tasks", headers=claimed).status_code == 200
        direct = httpx.get(f"{behind[1].url}/api/v1/tasks", headers=options["headers"])
        assert direct.status_code == 403


def test_a_large_bulk_goes_through(options: dict[str, Any]) -> None:
    items = [{"type": "demo.echo", "payload": {"text": "x" * 50_000}}] * 60
    with httpx.Client(**options) as client:
        answer = client.post("/tasks/bulk", json={"items": items})
    assert (answer.status_code, len(answer.json()["results"])) == (202, 60)


def test_a_body_beyond_all_bounds_is_refused(options: dict[str, Any]) -> None:
    with httpx.Client(**options) as client:
        answer = client.post("/tasks/bulk", content=b"x" * 35_000_000)
    assert answer.status_code == 413


def test_a_stream_comes_as_it_happens(options: dict[str, Any]) -> None:
    task_id = make_task(make_tenant("acme"))
    sequence()

    async def scenario() -> None:
        async with (
            httpx.AsyncClient(**options) as client,
            streaming(client, f"/tasks/{task_id}/stream") as events,
        ):
            types = []
            async for event in events:
                types.append(event.type)
                if event.type == "task.snapshot":
                    await in_thread(step, task_id, "success")
            assert types == ["task.snapshot", "task.started", "task.succeeded"]

    run(scenario)


def test_a_websocket_goes_through(proxy: Nginx) -> None:
    task_id = make_task(make_tenant("acme"))
    sequence()
    token = make_key(make_tenant("acme"))

    async def scenario() -> None:
        server = Web(proxy.url, None)  # type: ignore[arg-type]  # its process is not asked for
        async with opened(server, token, ssl=trusting(proxy)) as socket:
            await socket.subscribe()
            await in_thread(step, task_id, "success")
            async with asyncio.timeout(30):
                while (await socket.events(1))[0][1]["type"] != "task.succeeded":
                    pass

    run(scenario)


def test_plain_http_is_sent_to_https_and_metrics_stay_inside(
    proxy: Nginx, options: dict[str, Any]
) -> None:
    plain = httpx.get(
        f"http://127.0.0.1:{proxy.plain_port}/api/docs", headers={"Host": "a.example"}
    )
    assert (plain.status_code, plain.headers["location"]) == (301, "https://a.example/api/docs")
    assert httpx.get(f"{proxy.url}/metrics", verify=options["verify"]).status_code == 404


def test_clients_may_speak_http_2(proxy: Nginx) -> None:
    command = ["curl", "--silent", "--http2", "--cacert", str(proxy.certificate)]
    command += ["--write-out", "%{http_version} %{http_code}", "--output", "/dev/null"]
    done = subprocess.run(
        [*command, f"{proxy.url}/livez"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2 200"


def test_a_client_cannot_pass_for_others_to_guess_on(proxy: Nginx, options: dict[str, Any]) -> None:
    transport = httpx.HTTPTransport(verify=options["verify"], local_address="127.0.0.2")
    with httpx.Client(base_url=options["base_url"], transport=transport, timeout=30) as client:
        guesses = {
            client.get(
                "/tasks",
                headers={"Authorization": "Bearer guess", "X-Forwarded-For": f"203.0.113.{last}"},
            ).status_code
            for last in range(100)
        }
    assert guesses == {401, 429}
