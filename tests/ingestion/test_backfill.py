"""A folder of history is landed beside the live feed, each file once."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from ingestion_helpers import (
    NOW,
    assert_exactly_once,
    bronze_rows,
    file_feed,
    kafka_feed,
    land,
    running,
    wait_for,
)

from ingestion import bronze, cli
from ingestion.errors import ConfigError
from ingestion.runner import FeedResult, backfill


@pytest.fixture
def extract(tmp_path: Path) -> Path:
    """History: 30 files in folders by month."""
    folder = tmp_path / "extract"
    for n in range(30):
        path = folder / f"month_{n % 3}" / f"{n}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"id":{n}}}\nbroken\n')
    return folder


def fill(landing: Path, extract: Path, lakehouse: Path, glob: str = "**/*") -> FeedResult:
    feed = file_feed(landing, batch_files=4, marker="*.done")
    return backfill(feed, extract, glob, ["visits"], lakehouse, lambda: NOW)


def test_each_file_of_the_extract_is_landed_once(
    landing: Path, extract: Path, lakehouse: Path
) -> None:
    (landing / "live.ndjson").write_text('{"id":100}\n')
    live = file_feed(landing)
    land(live, lakehouse)
    assert fill(landing, extract, lakehouse, "month_1/*").landed == 10
    assert fill(landing, extract, lakehouse).landed == 20
    assert fill(landing, extract, lakehouse).batches == 0
    assert land(live, lakehouse).batches == 0
    (landing / "later.ndjson").write_text('{"id":101}\n')
    assert land(live, lakehouse).landed == 1
    assert_exactly_once(lakehouse, "visits", 62)


def test_the_live_run_lands_between_the_batches_of_the_extract(
    landing: Path, extract: Path, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table is committed to by both, in one order."""
    real, batches = bronze.Bronze.commit, []

    def while_live(self: bronze.Bronze, rows: object, batch_id: int, *more: object) -> None:
        real(self, rows, batch_id, *more)  # type: ignore[arg-type]  # passes everything on
        batches.append(batch_id)
        if len(batches) == 1:  # the extract has just landed its first batch
            (landing / "live.ndjson").write_text('{"id":100}\n')

    monkeypatch.setattr(bronze.Bronze, "commit", while_live)
    with running(lakehouse, file_feed(landing)) as live:
        filled = fill(landing, extract, lakehouse)
        wait_for(lambda: len(bronze_rows(lakehouse)) == 31)
    assert (filled.error, filled.landed, live[0].error, live[0].landed) == (None, 30, None, 1)
    assert batches == sorted(set(batches))
    assert_exactly_once(lakehouse, "visits", 61)


def test_a_feed_of_messages_is_not_back_filled_from_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only feeds of files are back-filled"):
        backfill(kafka_feed("h:1", "t"), tmp_path, "*", ["events"], tmp_path / "l", lambda: NOW)
    assert not (tmp_path / "l").exists()


def test_the_command_reports_what_it_landed(
    landing: Path, extract: Path, lakehouse: Path, tmp_path: Path
) -> None:
    feeds = tmp_path / "feeds.yml"
    feed = {"files": {"path": str(landing)}, "format": "ndjson", "key": ["id"]}
    feeds.write_text(yaml.safe_dump({"feeds": {"visits": feed}}))

    def run(*arguments: object) -> Result:
        options = ["--feeds", feeds, "--lakehouse", lakehouse, "--json"]
        return CliRunner().invoke(cli.main, ["backfill", *map(str, [*arguments, *options])])

    done = run("visits", "--path", extract)
    assert done.exit_code == 0, done.output
    assert (json.loads(done.stdout)["landed"], json.loads(done.stdout)["rejected"]) == (30, 30)
    assert run("visits", "--path", tmp_path / "absent").exit_code == 2
    assert run("unknown", "--path", extract).exit_code == 2
