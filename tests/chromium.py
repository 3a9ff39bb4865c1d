"""A headless Chromium for tests, driven over its DevTools protocol.

Needs Debian's `chromium`. Without it a test skips locally and fails where `CI=true`.
Source: https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.environment import RUN_DIRECTORY
from tests.processes import Process, wait_for

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-extensions",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)


class Page:
    """A tab in a profile of its own, and what its console said."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self.target = target
        self._session = session
        self.faults: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol."""
        return self._browser.call(method, self._session, **parameters)

    def hear(self, message: dict[str, Any]) -> None:
        """Keep errors, warnings and violations of the content security policy."""
        about = message["params"]
        match message["method"]:
            case "Runtime.exceptionThrown":
                self.faults.append(json.dumps(about["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if about["type"] in {"error", "warning", "assert"}:
                self.faults.append(f"console: {about['args']}")
            case "Log.entryAdded" if about["entry"]["level"] in {"error", "warning"}:
                entry = about["entry"]
                self.faults.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")

    def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        answer = self.call("Page.navigate", url=url)
        assert not answer.get("errorText"), answer
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, script: str) -> Any:
        """Give the value of an expression, of a promise what it is fulfilled with."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str, *, seconds: float = 20) -> Any:
        """Poll an expression until it is true, and give its value."""
        return wait_for(
            lambda: self.evaluate(script), seconds=seconds, reason=f"{script} {self.faults}"
        )

    def fill(self, selector: str, text: str) -> None:
        """Type into a field."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def press_enter(self) -> None:
        """Press Enter where the focus is."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13,
            )  # fmt: skip

    def emulate(self, **features: str) -> None:
        """Set media features; names have underscores for hyphens."""
        named = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.call("Emulation.setEmulatedMedia", features=named)

    def screenshot(self, path: Path) -> None:
        """Keep a picture of the page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def accessible(self, role: str) -> list[dict[str, Any]]:
        """Give what assistive technology is told of all parts with a role."""
        tree = self.call("Accessibility.getFullAXTree")["nodes"]
        found = []
        for node in tree:
            if not node["ignored"] and node["role"]["value"] == role:
                told = {one["name"]: one["value"].get("value") for one in node["properties"]}
                value = node.get("value", {}).get("value")
                found.append({"name": node["name"]["value"], "value": value, **told})
        return found


class Browser:
    """A running Chromium."""

    def __init__(self) -> None:
        self.profile = RUN_DIRECTORY / f"chromium-{uuid.uuid4().hex[:8]}"
        program = shutil.which("chromium")
        assert program is not None
        command = [program, *ARGUMENTS, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = Process(command, name="chromium", environment={"HOME": str(RUN_DIRECTORY)})
        self._numbers = itertools.count(1)
        self._pages: dict[str, Page] = {}
        self._connection: ClientConnection | None = None

    @contextmanager
    def connected(self) -> Iterator[Browser]:
        """Drive it for the duration."""
        port, path = wait_for(self._endpoint, seconds=60, reason=str(self.process.log))
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as connection:
            self._connection = connection
            yield self

    def _endpoint(self) -> list[str]:
        assert self.process.popen.poll() is None, self.process.output()
        found = self.profile / "DevToolsActivePort"
        lines = found.read_text().split("\n") if found.exists() else []
        return lines if len(lines) == 2 else []

    def call(self, method: str, session: str = "", **parameters: Any) -> Any:
        """Call a method of the protocol and give its result."""
        assert self._connection is not None
        number = next(self._numbers)
        sent: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            sent["sessionId"] = session
        self._connection.send(json.dumps(sent))
        end = time.monotonic() + 30
        while True:
            message = json.loads(self._connection.recv(timeout=max(end - time.monotonic(), 0)))
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            if "method" in message and message.get("sessionId") in self._pages:
                self._pages[message["sessionId"]].hear(message)

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A tab without cookies for the duration."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        made = target["targetId"]
        session = self.call("Target.attachToTarget", targetId=made, flatten=True)["sessionId"]
        try:
            page = Page(self, made, session)
            self._pages[session] = page
            yield page
        finally:
            self._pages.pop(session, None)
            self.call("Target.disposeBrowserContext", browserContextId=context)

    def stop(self) -> None:
        """End it and all its processes."""
        self.process.kill()


def require_chromium() -> None:
    """Skip where Chromium is missing; fail in CI."""
    if shutil.which("chromium"):
        return
    reason = "Chromium is not installed (apt-get install chromium)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser for the duration."""
    require_chromium()
    browser = Browser()
    try:
        with browser.connected():
            yield browser
    finally:
        browser.stop()
