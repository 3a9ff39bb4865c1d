"""The example pages and `<task-progress>` in a real browser on a real platform."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.installations import Installation
from tests.acceptance.test_documents import blocks
from tests.chromium import Browser, Page, require_chromium, running_browser
from tests.mosquitto import Mosquitto, running_mosquitto
from tests.processes import ROOT, wait_for
from tests.web import free_port

HOW_TO = ROOT / "docs" / "how-to" / "show-progress-in-a-browser.md"
TRANSPORTS = ("websocket", "sse", "signalr", "mqtt", "polling")
RECORD = """
window.told = [];
window.done = 0;
addEventListener("task-update", ({ detail }) => told.push(detail));
addEventListener("task-done", () => { done += 1; });
window.parts = (name) =>
  [...document.querySelectorAll("task-progress")].map(
    (one) => one.shadowRoot.querySelector("." + name).textContent,
  );
window.part = (name, place = 0) =>
  document.querySelectorAll("task-progress")[place].shadowRoot.querySelector("." + name);
"""
RESTART_SECONDS = 60
LOST = ("WebSocket connection to", "net::ERR_", "Failed to load resource")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    require_chromium()
    with running_mosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def own_page_port() -> int:
    """Where the pages of somebody else's application are served."""
    return free_port()


@pytest.fixture(scope="module")
def platform(broker: Mosquitto, own_page_port: int) -> Iterator[Installation]:
    made = Installation(
        TASKMILL_HANDLER_MODULES="tests.handlers",
        TASKMILL_ALLOWED_ORIGINS=f"http://127.0.0.1:{own_page_port}",
        MQTT_URL=broker.url(),
        MQTT_TIMEOUT_SECONDS="1",
        MQTT_BROWSER_URL=f"ws://127.0.0.1:{broker.websocket_port}",
    )
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.page() as found:
        found.call("Page.addScriptToEvaluateOnNewDocument", source=RECORD)
        yield found


@contextmanager
def held_task(platform: Installation, hold: Path) -> Iterator[dict[str, Any]]:
    """A task that stands at 40 % until the file is removed."""
    payload = {"reports": 5, "hold_at": 2, "path": str(hold)}
    task = platform.submit("test.progress", payload)
    try:
        wait_for(hold.exists)
        yield task
    finally:
        hold.unlink(missing_ok=True)


def address(platform: Installation, name: str, task: dict[str, Any]) -> str:
    return f"{platform.url}/examples/{name}#task={task['id']}&token={task['watch']['token']}"


def shown(page: Page, name: str, place: int = 0) -> Any:
    return page.evaluate(f"part('{name}', {place}).textContent")


def kill_web(platform: Installation) -> None:
    """Kill the web process and wait for the next one on the same port, by the supervisor."""
    [web] = [one for one in platform.processes() if "config.asgi:application" in one.cmdline()]
    web.kill()
    psutil.wait_procs([web], 10)
    url = f"{platform.url}/livez"
    assert httpx.get(url, timeout=RESTART_SECONDS).status_code == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_page_shows_a_task_grow_to_its_result(
    transport: str, platform: Installation, page: Page
) -> None:
    task = platform.submit("example", {"steps": 6, "delay": 0.3})
    page.open(address(platform, transport, task))
    page.until("done === 1")
    progress = page.evaluate("told.map((one) => one.progress)")
    assert progress == sorted(progress)
    assert len({one for one in progress if 0 < one < 100}) >= 2, progress
    assert page.evaluate("told.some((one) => /^Step \\d of 6$/.test(one.message))")
    assert shown(page, "word") == "Succeeded"
    assert shown(page, "percent") == "100 %"
    assert json.loads(shown(page, "outcome")) == {"steps": 6, "message": "6 steps done"}
    assert page.faults == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_page_shows_why_a_task_failed(transport: str, platform: Installation, page: Page) -> None:
    task = platform.submit("demo.fail", {})
    page.open(address(platform, transport, task))
    page.until("done === 1")
    assert shown(page, "word") == "Failed"
    error = platform.task(task["id"])["error"]
    assert shown(page, "outcome") == f"{error['code']}: {error['message']}"
    assert page.faults == []


def test_all_transports_survive_a_restart_of_the_web_process(
    platform: Installation, page: Page, tmp_path: Path
) -> None:
    with held_task(platform, tmp_path / "hold") as task:
        page.open(address(platform, "", task))
        page.until("parts('percent').every((text) => text === '40 %')")
        assert page.evaluate("parts('connection')") == ["Live", "Live", "Live", "Polling"]
        kill_web(platform)
        page.until(
            "parts('connection').join() === 'Live,Live,Live,Polling'", seconds=RESTART_SECONDS
        )
        before = page.evaluate("told.length")
    page.until("done === 4")
    assert page.evaluate("parts('word')") == ["Succeeded"] * 4
    assert page.evaluate("told.length") >= before + 4
    assert page.evaluate("told.every((one) => one.progress >= 40)")
    assert [one for one in page.faults if not any(word in one for word in LOST)] == []


def test_the_broker_may_restart_under_a_page(
    platform: Installation, broker: Mosquitto, page: Page, tmp_path: Path
) -> None:
    with held_task(platform, tmp_path / "hold") as task:
        page.open(address(platform, "mqtt", task))
        page.until("part('word').textContent === 'Processing'")
        broker.stop()
        page.until("part('connection').textContent === 'Reconnecting'")
        broker.start()
    page.until("done === 1")
    assert shown(page, "word") == "Succeeded"


def test_a_page_that_may_open_no_socket_polls_from_the_start(
    platform: Installation, page: Page, tmp_path: Path
) -> None:
    with held_task(platform, tmp_path / "hold") as task:
        elsewhere = address(platform, "websocket", task).replace("127.0.0.1", "localhost")
        page.open(elsewhere)
        page.until("part('connection').textContent === 'Polling'")
        assert shown(page, "percent") == "40 %"
    page.until("done === 1")


def test_a_page_whose_streams_are_blocked_falls_back_to_polling(
    platform: Installation, page: Page, tmp_path: Path
) -> None:
    page.call("Network.setBlockedURLs", urls=["*/stream?*"])
    with held_task(platform, tmp_path / "hold") as task:
        page.open(address(platform, "sse", task))
        page.until("part('connection').textContent === 'Polling'")
        assert shown(page, "percent") == "40 %"
    page.until("done === 1")


@pytest.mark.parametrize("transport", ["websocket", "sse", "signalr", "polling"])
def test_a_refused_token_is_said_and_not_tried_for_ever(
    transport: str, platform: Installation, page: Page
) -> None:
    task = platform.submit("demo.echo", {})
    other = platform.submit("demo.echo", {})
    page.open(address(platform, transport, task | {"watch": other["watch"]}))
    page.until("part('word').textContent === 'Not shown'")
    assert "There is no such task" in shown(page, "message")
    assert shown(page, "connection") == ""


def test_a_visitor_starts_an_example_with_an_api_key_that_is_kept_nowhere(
    platform: Installation, page: Page
) -> None:
    page.open(f"{platform.url}/examples/")
    token = platform.credentials()["token"]
    page.fill("[name=token]", token)
    page.press_enter()
    page.until("done === 4")
    assert [shown(page, "word", place) for place in range(4)] == ["Succeeded"] * 4
    assert "token=tmw_" in page.evaluate("location.hash")
    assert token not in page.evaluate("document.documentElement.outerHTML")
    assert page.evaluate("[...document.querySelectorAll('nav a')].at(-1).hash === location.hash")
    assert page.faults == []


def test_an_api_key_is_exchanged_for_a_watch_token_of_the_pasted_task(
    platform: Installation, page: Page
) -> None:
    task = platform.submit("demo.echo", {"n": 1})
    page.open(f"{platform.url}/examples/sse")
    page.fill("[name=token]", platform.credentials()["token"])
    page.fill("[name=task]", task["id"])
    page.press_enter()
    page.until("done === 1")
    assert json.loads(shown(page, "outcome")) == {"n": 1}
    assert page.evaluate("location.hash") == ""
    assert page.faults == []


def test_assistive_technology_is_told_the_progress(
    platform: Installation, page: Page, tmp_path: Path
) -> None:
    page.emulate(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
    with held_task(platform, tmp_path / "hold") as task:
        page.open(address(platform, "websocket", task))
        page.until("part('percent').textContent === '40 %'")
        [bar] = page.accessible("progressbar")
        assert bar["name"] == "WebSocket"
        assert (bar["valuemin"], bar["valuemax"]) == (0, 100)
        assert page.evaluate("part('bar').ariaValueNow") == "40"
        assert page.evaluate("part('bar').ariaValueText") == "40 %, Processing, at 2"
        assert page.evaluate("getComputedStyle(part('filled')).transitionDuration") == "0s"
        dark = page.evaluate("getComputedStyle(part('bar')).backgroundColor")
        page.emulate(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
        assert page.evaluate("getComputedStyle(part('bar')).backgroundColor") != dark
        assert page.evaluate("getComputedStyle(part('filled')).transitionDuration") == "0.25s"
    page.until("done === 1")
    assert page.evaluate("part('spoken').textContent") == "Succeeded"


def test_the_browser_s_own_websocket_and_event_source_see_a_task_to_its_end(
    platform: Installation, page: Page
) -> None:
    page.open(f"{platform.url}/examples/")
    watch = platform.submit("example", {"steps": 3, "delay": 0.2})["watch"]
    heard = page.evaluate(f"""Promise.all([
      new Promise((resolve) => {{
        const types = [], socket = new WebSocket({json.dumps(watch["ws_url"])});
        socket.onmessage = ({{ data }}) => {{
          const message = JSON.parse(data);
          if (message.op === "event") types.push(message.event.type);
        }};
        socket.onclose = ({{ code }}) => resolve([...types, code]);
      }}),
      new Promise((resolve) => {{
        const types = [], source = new EventSource({json.dumps(watch["stream_url"])});
        for (const type of ["task.snapshot", "task.progress", "task.succeeded"])
          source.addEventListener(type, () => types.push(type));
        source.onerror = () => {{
          if (source.readyState === EventSource.CLOSED) resolve(types);
        }};
      }}),
    ])""")
    by_socket, by_stream = heard
    assert by_socket[0] == by_stream[0] == "task.snapshot"
    assert by_socket[-2:] == ["task.succeeded", 1000]
    assert by_stream[-1] == "task.succeeded"
    assert "task.progress" in by_socket
    assert "task.progress" in by_stream


@pytest.mark.parametrize("transport", ["websocket", "sse", "signalr", "polling"])
def test_the_how_to_s_page_works_on_another_origin(
    transport: str, platform: Installation, own_page_port: int, page: Page, tmp_path: Path
) -> None:
    task = platform.submit("example", {"steps": 4, "delay": 0.25})
    [html], [script] = blocks(HOW_TO, "html"), blocks(HOW_TO, "javascript")
    html = html.replace("https://tasks.example.com", platform.url)
    html = html.replace("{{ task.watch.ws_url }}", task["watch"]["ws_url"])
    html = html.replace("<task-progress ", f'<task-progress transport="{transport}" ')
    (tmp_path / "index.html").write_text(html)
    (tmp_path / "order.js").write_text(script)
    with own_pages(own_page_port, tmp_path):
        page.open(f"http://127.0.0.1:{own_page_port}/index.html")
        page.until("!document.querySelector('#after').hidden")
        assert json.loads(shown(page, "outcome"))["steps"] == 4
    assert [one for one in page.faults if "favicon.ico" not in one] == []


@contextmanager
def own_pages(port: int, directory: Path) -> Iterator[None]:
    """A web server of somebody else's."""

    def handler(*arguments: Any) -> QuietHandler:
        return QuietHandler(*arguments, directory=str(directory))

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_the_pages_are_public_and_their_policy_lets_nothing_else_in(
    platform: Installation, broker: Mosquitto
) -> None:
    for name in ("", *TRANSPORTS):
        answer = httpx.get(f"{platform.url}/examples/{name}")
        policy = answer.headers["Content-Security-Policy"]
        more = f" ws://127.0.0.1:{broker.websocket_port}" if name == "mqtt" else ""
        assert f"connect-src 'self'{more};" in policy
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)|style=|\son\w+=", answer.text)
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", answer.text)
    assert httpx.get(f"{platform.url}/examples/gopher").status_code == 404
