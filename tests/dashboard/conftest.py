"""Fixtures: a dashboard exported from a sample bank, a static server, and a headless Chromium."""

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.chromium import Browser, Page, find_chromium, running_chromium
from tests.dashboard.sample_views import Dashboard


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files as `python -m http.server` does, without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def dashboard(tmp_path: Path) -> Dashboard:
    return Dashboard(tmp_path)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        reason = "no Chromium on the PATH (chromium, chromium-browser or google-chrome)"
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"REQUIRE_ALL=1, but {reason}")
        pytest.skip(reason)
    with running_chromium(executable, tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.tab() as tab:
        yield tab


@pytest.fixture
def served(dashboard: Dashboard) -> Iterator[str]:
    """The address of a static server on a free loopback port, for the dashboard's folder."""
    handler = partial(QuietHandler, directory=str(dashboard.output))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()
        thread.join()


@pytest.fixture(params=["file", "http"])
def address(request: pytest.FixtureRequest, dashboard: Dashboard) -> str:
    """The page's address, once opened from disk and once served."""
    if request.param == "http":
        return str(request.getfixturevalue("served"))
    return (dashboard.output / "index.html").as_uri()
