"""Compaction changes no row, no progress, and breaks no reader."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from deltalake import DeltaTable
from ingestion_helpers import assert_exactly_once, bronze_rows, file_feed, kafka_feed, land

from ingestion import maintenance
from ingestion.maintenance import compact

SMALL_COMMITS = 12


def landed_in_small_commits(landing: Path, lakehouse: Path) -> list[dict[str, object]]:
    feed = file_feed(landing)
    for number in range(SMALL_COMMITS):
        (landing / f"{number:02}.ndjson").write_text(f'{{"id":{number}}}\nbroken\n')
        land(feed, lakehouse)
    return bronze_rows(lakehouse)


def test_rows_stay_as_they_are_in_fewer_files(landing: Path, lakehouse: Path) -> None:
    before = landed_in_small_commits(landing, lakehouse)
    done = compact(lakehouse / "bronze" / "visits")
    assert (done.files_before, done.files_after) == (SMALL_COMMITS, 1)
    assert bronze_rows(lakehouse) == before


def test_landing_goes_on_where_it_was(
    broker: str, new_topic: Callable[..., str], send: Callable[..., None], lakehouse: Path
) -> None:
    topic = new_topic([b'{"id":1}'])
    feed = kafka_feed(broker, topic)
    first = land(feed, lakehouse)
    compact(lakehouse / "bronze" / "events")
    send(topic, [b'{"id":2}'])
    second = land(feed, lakehouse)
    assert (second.batch_id, second.landed) == (first.batch_id + 1, 1)
    assert_exactly_once(lakehouse, "events", 2)


def test_a_reader_that_began_before_still_finds_its_files(landing: Path, lakehouse: Path) -> None:
    landed_in_small_commits(landing, lakehouse)
    reader = DeltaTable(lakehouse / "bronze" / "visits")
    files = [Path(uri) for uri in reader.file_uris()]
    assert compact(lakehouse / "bronze" / "visits").files_deleted == 0
    assert len(files) == SMALL_COMMITS and all(file.exists() for file in files)


def test_the_command_names_each_table_and_refuses_unknown_feeds(
    landing: Path, lakehouse: Path, tmp_path: Path
) -> None:
    landed_in_small_commits(landing, lakehouse)
    feeds = tmp_path / "feeds.yml"
    feeds.write_text(f"feeds:\n  visits:\n    files: {{path: {landing}}}\n    format: ndjson\n")
    options = ["--feeds", str(feeds), "--lakehouse", str(lakehouse)]
    done = CliRunner().invoke(maintenance.command, options)
    assert done.exit_code == 0, done.output
    assert "visits" in done.output and "12 files -> 1" in done.output
    assert "quarantine" in done.output
    refused = CliRunner().invoke(maintenance.command, [*options, "--feed", "nothing"])
    assert refused.exit_code == 2
    assert "unknown feed 'nothing'; declared are: visits" in refused.output


@pytest.mark.parametrize("days", ["0", "6"])
def test_files_that_a_reader_may_still_need_cannot_be_deleted(days: str) -> None:
    refused = CliRunner().invoke(maintenance.command, ["--keep-days", days])
    assert refused.exit_code == 2
