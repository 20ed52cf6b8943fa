"""Drives a headless Chromium over the DevTools protocol, through a pair of pipes.

The pipes (`--remote-debugging-pipe`: file descriptors 3 and 4, messages end in a zero byte) need no
port and no websocket library.
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip - one switch per line says no more

ANSWER_SECONDS = 60

# Puts two inherited pipes where Chromium expects them, then becomes Chromium.
LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

Json = dict[str, Any]


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. `errors` collects what the page threw or logged as an error, `requests` its URLs."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser = browser
        self._session = session
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.dialogs = 0

    def send(self, method: str, **parameters: object) -> Json:
        return self._browser.send(method, parameters, self._session)

    def open(self, url: str) -> Self:
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=url)
        return self

    def evaluate(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression; awaits it where it is a promise."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 30) -> None:
        """Waits until a JavaScript condition holds; fails with what the page says."""
        held = self.evaluate(
            f"""new Promise((resolve) => {{
                const end = Date.now() + {seconds * 1000};
                const check = () => {{
                    let holds = false;
                    try {{ holds = Boolean({condition}); }} catch {{ /* not there yet */ }}
                    if (holds || Date.now() > end) resolve(holds);
                    else setTimeout(check, 20);
                }};
                check();
            }})"""
        )
        status = self.evaluate("document.querySelector('#status')?.textContent")
        assert held, f"never held: {condition}; the page says: {status}; errors: {self.errors}"

    def text(self, selector: str) -> str:
        """The element's text, white space collapsed, wherever it is drawn (hidden, in an SVG)."""
        content = self.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent")
        assert content is not None, f"no element {selector}"
        return " ".join(str(content).split())

    def note(self, event: Json) -> None:
        parameters = event.get("params", {})
        match event["method"]:
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(parameters["exceptionDetails"])[:500])
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.errors.append(parameters["entry"]["text"])
            case "Page.javascriptDialogOpening":
                self.dialogs += 1
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])


class Browser:
    """A running Chromium; `tab` opens a page in a profile of its own."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = os.fdopen(reader, "rb", buffering=0)
        self._writer = os.fdopen(writer, "wb", buffering=0)
        self._buffer = b""
        self._last = 0
        self._pages: dict[str, Page] = {}

    def close(self) -> None:
        self._writer.close()
        self._reader.close()

    def send(self, method: str, parameters: Json, session: str | None = None) -> Json:
        self._last += 1
        message: Json = {"id": self._last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._writer.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: Json = answer["result"]
                return result
            if (page := self._pages.get(answer.get("sessionId", ""))) and "method" in answer:
                page.note(answer)

    def _receive(self) -> Json:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reader], [], [], ANSWER_SECONDS)
            chunk = self._reader.read(1 << 16) if ready else b""
            if not chunk:
                raise AssertionError("Chromium ended" if ready else "Chromium does not answer")
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        answer: Json = json.loads(message)
        return answer

    @contextmanager
    def tab(self) -> Iterator[Page]:
        context = self.send("Target.createBrowserContext", {})["browserContextId"]
        target = self.send(
            "Target.createTarget", {"url": "about:blank", "browserContextId": context}
        )["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = Page(self, session["sessionId"])
        self._pages[session["sessionId"]] = page
        try:
            yield page
        finally:
            del self._pages[session["sessionId"]]
            self.send("Target.disposeBrowserContext", {"browserContextId": context})


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are not 3 or 4, which the launcher overwrites."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]


@contextmanager
def running_chromium(executable: str, profile: Path) -> Iterator[Browser]:
    """Starts Chromium with a fresh profile folder, and ends it and its children afterwards."""
    to_browser, writer = _pipe()
    reader, from_browser = _pipe()
    command = [executable, *SWITCHES, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(to_browser), str(from_browser), *command],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    browser = Browser(reader, writer)
    try:
        yield browser
    finally:
        browser.close()  # Chromium ends in good order when its pipe closes
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
