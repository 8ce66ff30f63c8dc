"""Chromium without a window: what a page looks like, and what it complains about."""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Browser", "Tab", "browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_START = """
import os, sys
ends = [os.dup(int(each)) for each in sys.argv[1:3]]
for place, end in zip((3, 4), ends):
    os.dup2(end, place)
    os.set_inheritable(place, True)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Becomes the browser, which reads from its descriptor 3 and writes to 4."""
_PATIENCE_S = 60
_ERRORS = ("error", "warning", "assert")


@dataclass
class Tab:
    """A page that is open.

    Attributes:
        complaints: errors and warnings of its script, its policy, and what it loads.
        requested: addresses that it asked for.
    """

    browser: "Browser"
    session: str
    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol."""
        return self.browser.call(method, self.session, **params)

    def open(self, path: Path, *, width: int, height: int = 900, scheme: str = "light") -> None:
        """Load a file at this width, in this colour scheme; complaints of the one before are forgotten."""
        self.complaints.clear()
        self.requested.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=path.as_uri())
        self.browser.await_event("Page.loadEventFired", self.session)
        self.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def picture(self, path: Path) -> None:
        """Save the whole page as PNG."""
        told = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(b64decode(told["data"]))

    def hear(self, method: str, params: dict[str, Any]) -> None:
        """Something happened."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in _ERRORS:
            self.complaints.append(" ".join(str(each.get("value")) for each in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in _ERRORS:
            self.complaints.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])


class Browser:
    """A browser, spoken to over two pipes; it is ended with the `with` block of `browser`."""

    def __init__(self, to_it: int, from_it: int) -> None:
        self._to_it, self._from_it = to_it, from_it
        self._rest = b""
        self._number = 0
        self._tabs: dict[str, Tab] = {}
        self._events: list[tuple[str, str]] = []

    def tab(self) -> Tab:
        """A new tab, whose complaints are heard."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._tabs[session] = tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        return tab

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command, and wait for its answer."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to_it, json.dumps(message).encode() + b"\0")
        while True:
            told = self._hear()
            if told.get("id") == number:
                assert "error" not in told, f"{method}: {told.get('error')}"
                result: dict[str, Any] = told["result"]
                return result

    def await_event(self, method: str, session: str) -> None:
        """Wait until something has happened; once for each time that it happens."""
        while (session, method) not in self._events:
            self._hear()
        self._events.remove((session, method))

    def _hear(self) -> dict[str, Any]:
        """The next message; events are handed on."""
        deadline = time.monotonic() + _PATIENCE_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from_it], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(self._from_it, 1 << 20) if ready else b""
            if not more:
                pytest.fail("the browser has ended, or does not answer")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        if "method" in told and (tab := self._tabs.get(told.get("sessionId", ""))) is not None:
            self._events.append((tab.session, told["method"]))
            tab.hear(told["method"], told["params"])
        return told


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile; the test is skipped where there is none."""
    name = next((path for each in _NAMES if (path := shutil.which(each))), None)
    if name is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is installed")
    its_input, to_it = os.pipe()
    from_it, its_output = os.pipe()
    command = [sys.executable, "-c", _START, str(its_input), str(its_output)]
    process = subprocess.Popen(
        [*command, name, *_FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(its_input, its_output),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(its_input)
    os.close(its_output)
    try:
        yield Browser(to_it, from_it)
    finally:
        os.close(to_it)
        os.close(from_it)
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
