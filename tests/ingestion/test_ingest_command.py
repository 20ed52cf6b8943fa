"""The `ingest` command, as a person or a program uses it."""

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable
from ingestion_helpers import bronze_rows, quarantine_rows

from ingestion.cli import main
from tests.support.ingest import INGEST

FEEDS = """
feeds:
  visits:
    files: {path: "${LAKEHOUSE_PATH}/../landing", glob: "*.ndjson"}
    format: ndjson
    key: [id]
  never:
    files: {path: "${LAKEHOUSE_PATH}/../landing", glob: "*.csv"}
    format: csv
"""


@pytest.fixture
def ingest(tmp_path: Path, landing: Path) -> Callable[..., Result]:
    """Call the command with a feeds file of two feeds over one folder."""
    feeds = tmp_path / "feeds.yml"
    feeds.write_text(FEEDS)
    (landing / "a.ndjson").write_text('{"id":1}\nbroken\n{"id":2}\n')

    def call(*arguments: str, **env: str) -> Result:
        settings = {
            "FEEDS_FILE": str(feeds),
            "LAKEHOUSE_PATH": str(tmp_path / "lakehouse"),
            "KAFKA_BOOTSTRAP_SERVERS": None,
            **env,
        }
        return CliRunner().invoke(main, list(arguments), env=settings)

    return call


def test_a_run_prints_a_table_and_makes_every_declared_table(
    ingest: Callable[..., Result], lakehouse: Path
) -> None:
    result = ingest("run", "--once", "--feed", "visits")
    assert result.exit_code == 0, result.output
    head, visits = result.stdout.splitlines()
    assert head.split() == ["feed", "batch", "landed", "rejected", "seconds"]
    assert visits.split()[:4] == ["visits", "1", "2", "1"]
    assert len(bronze_rows(lakehouse)) == 2
    assert len(quarantine_rows(lakehouse)) == 1
    assert DeltaTable(lakehouse / "bronze" / "never").version() == 0


def test_a_run_prints_one_json_object_for_a_program(ingest: Callable[..., Result]) -> None:
    result = ingest("run", "--once", "--json")
    printed = json.loads(result.stdout)
    assert (printed["landed"], printed["rejected"], printed["failed"]) == (2, 1, 0)
    visits, never = printed["feeds"]
    assert (visits["feed"], visits["batch_id"], visits["batches"]) == ("visits", 1, 1)
    assert list(visits["reasons"].values()) == [1]
    assert visits["error"] is None
    assert (never["feed"], never["batch_id"]) == ("never", 0)


def test_a_batch_is_logged_as_one_json_object_with_what_was_rejected(
    ingest: Callable[..., Result], landing: Path, tmp_path: Path
) -> None:
    places = ("--feeds", tmp_path / "feeds.yml", "--lakehouse", tmp_path / "lakehouse")
    command = [INGEST, "run", "--once", "--verbose", "--feed", "visits", *places]
    env = {**os.environ, "LAKEHOUSE_PATH": str(tmp_path / "lakehouse")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    logged = json.loads(line)
    assert (logged["feed"], logged["batch_id"], logged["landed"]) == ("visits", 1, 2)
    assert list(logged["reasons"].values()) == [1] == [logged["rejected"]]


def test_status_shows_last_batch_rows_and_lag_and_writes_nothing(
    ingest: Callable[..., Result], landing: Path, lakehouse: Path
) -> None:
    before = ingest("status", "--json")
    assert json.loads(before.stdout)["feeds"][0]["note"] == "nothing landed yet"
    assert not lakehouse.exists()
    ingest("run", "--once")
    (landing / "b.ndjson").write_text('{"id":3}\n')
    visits, never = json.loads(ingest("status", "--json").stdout)["feeds"]
    assert (visits["batch_id"], visits["landed_rows"], visits["rejected_rows"]) == (1, 2, 1)
    assert visits["lag"] == {"files": 1, "bytes": 9}
    assert visits["last_commit_at"] is not None
    assert (never["batch_id"], never["landed_rows"], never["last_commit_at"]) == (0, 0, None)
    table = ingest("status").stdout.splitlines()
    assert table[1].split()[:4] == ["visits", "1", "2", "1"]
    assert table[1].endswith("1 files, 9 bytes")


def test_status_shows_the_columns_of_files_and_those_that_came_later(
    ingest: Callable[..., Result], landing: Path
) -> None:
    ingest("run", "--once")
    assert json.loads(ingest("status", "--json").stdout)["feeds"][0]["columns"] == {"id": 1}
    (landing / "b.ndjson").write_text('{"id":3,"channel":"web"}\n')
    ingest("run", "--once")
    visits, never = json.loads(ingest("status", "--json").stdout)["feeds"]
    assert (visits["columns"], never["columns"]) == ({"id": 1, "channel": 2}, {})
    assert "2, +channel (batch 2)" in ingest("status").stdout


def test_a_run_on_a_terminal_shows_how_much_is_done(landing: Path, tmp_path: Path) -> None:
    feeds = tmp_path / "feeds.yml"
    feeds.write_text(FEEDS)
    for n in range(3):
        (landing / f"{n}.ndjson").write_text('{"id":1}\n')
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [INGEST, "run", "--once", "--feeds", feeds, "--lakehouse", tmp_path / "lakehouse"],
        stderr=theirs,
        stdout=subprocess.PIPE,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "visits (3 files)" in shown
    assert "3/3" in shown
    assert b"visits" in done.stdout  # the table is printed as ever


def test_status_of_a_source_that_does_not_answer_says_so(
    ingest: Callable[..., Result], landing: Path
) -> None:
    ingest("run", "--once")
    for file in landing.iterdir():
        file.unlink()
    landing.rmdir()
    visits = json.loads(ingest("status", "--json").stdout)["feeds"][0]
    assert (visits["batch_id"], visits["lag"]) == (1, None)
    assert "is not a folder" in visits["note"]


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ("{format: csv, files: {path: nowhere}}", "files.path: "),
        ("{format: orc, files: {path: .}}", "format: 'orc' is unknown"),
        ("{format: json, kafka: {topics: [t]}}", "bootstrap.servers: is missing"),
        (
            "{format: json, kafka: {topics: [t], settings: {bootstrap.servers: '${KB}'}}}",
            "environment variable KB is not set",
        ),
        (
            "{format: json, kafka: {topics: [t], connect_timeout_seconds: 1,"
            " settings: {bootstrap.servers: '127.0.0.1:1'}}}",
            "cannot reach a broker at 127.0.0.1:1",
        ),
    ],
)
def test_a_wrong_setting_of_one_feed_ends_the_run_before_anything_is_written(
    ingest: Callable[..., Result], tmp_path: Path, lakehouse: Path, feed: str, said: str
) -> None:
    with (tmp_path / "feeds.yml").open("a") as file:
        file.write(f"  wrong: {feed}\n")
    result = ingest("run", "--once")
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert f"{tmp_path / 'feeds.yml'}: feed 'wrong': " in line
    assert said in line
    assert not lakehouse.exists()


def test_an_unknown_feed_name_is_a_wrong_setting(
    ingest: Callable[..., Result], lakehouse: Path
) -> None:
    result = ingest("run", "--once", "--feed", "nobody")
    assert result.exit_code == 2
    assert "feed 'nobody': unknown feed: declared are: visits, never" in result.stderr
    assert not lakehouse.exists()


def test_a_feed_that_fails_is_said_and_the_others_land(
    ingest: Callable[..., Result], lakehouse: Path, landing: Path
) -> None:
    ingest("run", "--once")
    (landing / "b.ndjson").write_text('{"id":3}\n')
    (landing / "c.csv").write_text("id\n1\n")
    (lakehouse / "ingest" / "visits.lock").unlink()
    (lakehouse / "ingest" / "visits.lock").mkdir()
    result = ingest("run", "--once", "--json")
    assert result.exit_code == 1
    visits, never = json.loads(result.stdout)["feeds"]
    assert visits["error"] is not None
    assert never["landed"] == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("feed 'visits' failed: ")


def test_run_without_once_says_what_to_do(ingest: Callable[..., Result]) -> None:
    result = ingest("run")
    assert result.exit_code == 2
    assert "--once" in result.stderr


def test_help_stands_alone_and_names_every_command(ingest: Callable[..., Result]) -> None:
    result = ingest("run", "--help")
    assert result.exit_code == 0
    for word in ("--once", "--feed", "--json", "FEEDS_FILE", "LAKEHOUSE_PATH", "Exit codes"):
        assert word in result.stdout
