"""Webhooks to receivers that redirect, dribble, flood, answer nonsense or prove nothing."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from notifications.models import WebhookTry
from tests.factories import make_key, make_task, make_tenant
from tests.integration.api_client import Api
from tests.processes import wait_for
from tests.receivers import Answer, Receiver, receiver
from tests.webhooks import (
    delivery_states,
    delivery_when_there,
    failing,
    make_due,
    make_endpoint,
    running_webhooks,
    sequence_events,
    told_of_a_task,
    wait_delivery,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("local_receivers")]


def test_a_redirect_is_a_failure_and_nobody_follows_it(shop: Receiver) -> None:
    with receiver() as internal:
        endpoint = failing(shop, 302, Location=internal.url)
        with running_webhooks():
            row = delivery_when_there(endpoint)
            for status in (301, 307, 308):
                shop.answer(status, Location=internal.url)
                make_due(row.id)
            row = wait_delivery(row.id, tries=1)
        assert internal.received == []
    assert row.last_error == "redirect"


def dribble(connection_: socket.socket) -> None:
    """Answer one byte at a time, for ever."""
    try:
        for byte in b"HTTP/1.1 200 OK\r\n" + b"x" * 1000:
            connection_.send(bytes([byte]))
            if threading.Event().wait(0.1):
                return
    except OSError:
        return


def test_a_receiver_that_dribbles_is_cut_off_and_delays_no_other(shop: Receiver) -> None:
    tenant = make_tenant()
    with receiver() as slow:
        slow.answers = [Answer(script=dribble)]
        stuck, _ = make_endpoint(tenant, slow.url, types=["task.created"])
        for _ in range(30):
            make_task(tenant)
        sequence_events()
        with running_webhooks(total_seconds=4.0, concurrency=100, receiver_concurrency=4):
            slow.wait(4)
            make_endpoint(tenant, shop.url, types=["task.started"])
            make_task(tenant, state="running")
            shop.wait(1)
            timeouts = WebhookTry.objects.filter(error="timeout")
            assert not timeouts.exists(), "the other one waited for the slow ones"
            wait_for(lambda: timeouts.count() >= 4, reason="the slow ones are given up")
            wait_for(lambda: len(slow.received) in (5, 6, 7, 8), reason="the circuit is closed")
        found = list(timeouts)
    assert all(3_900 <= one.duration_ms < 50_000 for one in found)
    assert len(slow.received) <= 8
    assert delivery_states(stuck) == {"pending": 31}


def flood(connection_: socket.socket) -> None:
    """Answer 200 with a body that never ends."""
    try:
        connection_.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            connection_.sendall(b"x" * 65_536)
    except OSError:
        return


def bomb(connection_: socket.socket) -> None:
    """Answer 200 with what claims to be gzip, NULs and control signs."""
    body = b"\x1f\x8b\x08\x00\x00\x1b]0;x\x07<script>alert(1)</script>"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    connection_.sendall(head % len(body) + body)


def not_http(connection_: socket.socket) -> None:
    connection_.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
    connection_.close()


def many_headers(connection_: socket.socket) -> None:
    connection_.sendall(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: " + b"x" * 200_000 + b"\r\n")


def cut_short(connection_: socket.socket) -> None:
    connection_.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    connection_.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (flood, "too_large"),
        (bomb, ""),
        (not_http, "protocol"),
        (many_headers, "protocol"),
        (cut_short, "protocol"),
    ],
)
def test_a_hostile_answer_costs_one_bounded_try(shop: Receiver, script: Any, error: str) -> None:
    shop.answers = [Answer(script=script)]
    endpoint = told_of_a_task(shop)
    with running_webhooks():
        row = delivery_when_there(endpoint)
        row = wait_delivery(row.id, tries=1)
    found = WebhookTry.objects.get()
    assert (found.error, row.state) == (error, "pending" if error else "delivered")
    assert len(found.response_head) <= 1024
    assert not set(found.response_head) & set("\x00\x1b\x07")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for `localhost`, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command += f" -keyout {path}.key -out {path}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return path


@pytest.mark.parametrize(
    ("host", "is_known", "error"),
    [("localhost", True, ""), ("localhost", False, "tls"), ("127.0.0.1", True, "tls")],
)
def test_tls_is_verified_against_the_name_of_the_address(
    host: str, is_known: bool, error: str, certificate: Path, monkeypatch: Any
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, f"{certificate}.key")
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)  # type: ignore[assignment]
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with receiver(context) as secure:
        tenant = make_tenant()
        url = f"https://{host}:{secure.port}/hook"
        endpoint, secret = make_endpoint(tenant, url, types=["task.created"])
        make_task(tenant)
        with running_webhooks():
            row = delivery_when_there(endpoint)
            row = wait_delivery(row.id, tries=1)
        assert row.last_error == error
        assert set(names) <= {host if host == "localhost" else None}
        if not error:
            [request] = secure.received
            request.verified(secret)
            assert request.headers["host"] == f"localhost:{secure.port}"


def test_proxies_of_the_environment_are_not_used(shop: Receiver, monkeypatch: Any) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    told_of_a_task(shop)
    with running_webhooks():
        shop.wait(1)


def test_what_was_sent_about_a_task_is_listed_with_its_own_addresses(shop: Receiver) -> None:
    tenant = make_tenant()
    endpoint, _ = make_endpoint(tenant, f"{shop.url}/all", types=["task.succeeded"])
    task_id = make_task(tenant, state="success", webhook_urls=[f"{shop.url}/own"])
    make_task(tenant, state="success", webhook_urls=[f"{shop.url}/other"])
    sequence_events()
    api = Api(make_key(tenant))
    path = f"/tasks/{task_id}/deliveries"

    def listed() -> list[Any]:
        found: list[Any] = api.get(path).json()["results"]
        return found

    with running_webhooks():
        wait_for(lambda: [one["state"] for one in listed()] == ["delivered"] * 2)
    assert {(one["webhook"], one["url"]) for one in listed()} == {
        (str(endpoint), None),
        (None, f"{shop.url}/own"),
    }
    assert {one["task_id"] for one in listed()} == {str(task_id)}
    first = api.get(f"{path}?limit=1").json()
    second = api.get(first["next"].removeprefix("http://testserver")).json()
    assert [*first["results"], *second["results"]] == listed()
    other = Api(make_key(tenant, ["tasks:read"]))
    assert other.get(path).status_code == 403
