"""A real browser for tests: Chromium without a window, driven through chromedriver.

The W3C WebDriver protocol is JSON over HTTP, of which a test needs six requests.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
)
PATIENCE = 60  # seconds until the driver listens, and for a request


class Browser:
    """A session of a browser."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
        """One request of the protocol; its value."""
        data = None if content is None else json.dumps(content).encode()
        request = Request(self.address + path, data, {"Content-Type": "application/json"})
        request.method = method
        with urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]

    def open(self, file: Path) -> None:
        self.ask("POST", "/url", {"url": file.resolve().as_uri()})

    def run(self, script: str) -> Any:
        """What a function body in JavaScript returns."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": []})

    def console(self) -> list[str]:
        """The warnings and errors in the console since the last call."""
        return [line["message"] for line in self.ask("POST", "/se/log", {"type": "browser"})]

    def picture(self, file: Path) -> None:
        """The whole page as a PNG."""
        sizes = "Math.ceil(document.documentElement.scrollHeight)"
        width = self.run("return window.innerWidth")
        self.device(width, min(int(self.run(f"return {sizes}")), 16_000))
        file.write_bytes(base64.b64decode(self.ask("GET", "/screenshot")))

    def device(self, width: int, height: int = 900) -> None:
        """A screen of this many pixels."""
        about = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": about}
        self.ask("POST", "/goog/cdp/execute", command)


def missing() -> str:
    """Why no browser can be started; empty if one can."""
    if not any(map(shutil.which, BROWSERS)):
        return f"no browser on the path ({', '.join(BROWSERS)})"
    return "" if shutil.which("chromedriver") else "no chromedriver on the path"


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, ended with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    host = Browser(f"http://127.0.0.1:{port}")
    session = None
    try:
        _wait(host)
        options = {
            "binary": next(filter(None, map(shutil.which, BROWSERS))),
            "args": [*FLAGS, f"--user-data-dir={profile}"],
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = host.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        session = Browser(f"{host.address}/session/{made['sessionId']}")
        yield session
    finally:
        if session is not None:
            session.ask("DELETE", "")
        driver.terminate()
        driver.wait()


def _wait(host: Browser) -> None:
    for _ in range(10 * PATIENCE):
        try:
            host.ask("GET", "/status")
            return
        except (URLError, ConnectionError):
            time.sleep(0.1)
    raise TimeoutError(f"chromedriver does not listen at {host.address}")
