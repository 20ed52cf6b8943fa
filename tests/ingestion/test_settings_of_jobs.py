"""`ingest` where a scheduler gives it no environment: a wheel task on Databricks."""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner
from ingestion_helpers import bronze_rows

from ingestion.cli import main, program

SECRETS = {"LANDING": "will be overridden", "RECORD_KEY": "id"}


class _Workspace(BaseHTTPRequestHandler):
    """The two requests about secrets: https://docs.databricks.com/api/workspace/secrets."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        status, answer = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such scope"}
        if asked.get("scope") == "bank" and self.headers["Authorization"] == "Bearer token":
            if address.path == "/api/2.0/secrets/list":
                status, answer = 200, {"secrets": [{"key": key} for key in SECRETS]}
            elif address.path == "/api/2.0/secrets/get":
                value = base64.b64encode(SECRETS[asked["key"]].encode()).decode()
                status, answer = 200, {"key": asked["key"], "value": value}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A workspace with a scope `bank`, where the SDK looks for one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Workspace)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("DATABRICKS_TOKEN", "token")
    # What is set by the command is taken back with the test.
    for name in SECRETS:
        monkeypatch.setenv(name, "")
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture
def arguments(tmp_path: Path, landing: Path, lakehouse: Path) -> list[str]:
    """`run` with a feeds file that needs both secrets."""
    feeds = tmp_path / "feeds.yml"
    feeds.write_text(
        'feeds: {visits: {files: {path: "${LANDING}"}, format: ndjson, key: ["${RECORD_KEY}"]}}'
    )
    (landing / "a.ndjson").write_text('{"id":1}\n{"no":1}\n')
    return ["run", "--once", "--feeds", str(feeds), "--lakehouse", str(lakehouse)]


def test_secrets_of_a_scope_and_settings_take_the_place_of_the_environment(
    workspace: None, arguments: list[str], landing: Path, lakehouse: Path
) -> None:
    given = ["--secret-scope", "bank", "--set", f"LANDING={landing}"]
    result = CliRunner().invoke(main, [*given, *arguments])
    assert result.exit_code == 0, result.output
    assert [row["value"] for row in bronze_rows(lakehouse)] == ['{"id":1}']


def test_a_scope_that_cannot_be_read_is_a_wrong_setting(
    workspace: None, arguments: list[str], lakehouse: Path
) -> None:
    result = CliRunner().invoke(main, ["--secret-scope", "other", *arguments])
    assert result.exit_code == 2
    assert "--secret-scope other cannot be read: no such scope" in result.output
    assert not lakehouse.exists()


def test_a_setting_without_a_name_is_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["--set", "LANDING", *arguments])
    assert result.exit_code == 2
    assert "--set LANDING: say NAME=VALUE" in result.output


def test_a_task_that_succeeds_returns_and_leaves_the_process_as_it_was(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], landing: Path
) -> None:
    monkeypatch.setenv("LANDING", str(landing))
    monkeypatch.setenv("RECORD_KEY", "id")
    finders = list(sys.meta_path)
    monkeypatch.setattr(sys, "argv", ["ingest", *arguments])
    program()
    monkeypatch.setattr(sys, "argv", ["ingest", "--set", "nonsense", *arguments])
    with pytest.raises(SystemExit) as ended:
        program()
    assert ended.value.code == 2
    assert sys.meta_path == finders
