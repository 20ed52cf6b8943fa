"""Compaction changes no row, no progress, and breaks no reader; rows go only for their age."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from deltalake import DeltaTable
from ingestion_helpers import (
    NOW,
    assert_exactly_once,
    bronze_rows,
    file_feed,
    kafka_feed,
    land,
    quarantine_rows,
)

from ingestion import maintenance
from ingestion.maintenance import COMMITS_PER_COMPACTION, Upkeep, compact
from ingestion.runner import run_once

SMALL_COMMITS = 12


def table(lakehouse: Path, feed: str = "visits") -> str:
    return str(lakehouse / "bronze" / feed)


def landed_in_small_commits(landing: Path, lakehouse: Path) -> list[dict[str, object]]:
    feed = file_feed(landing)
    for number in range(SMALL_COMMITS):
        (landing / f"{number:02}.ndjson").write_text(f'{{"id":{number}}}\nbroken\n')
        land(feed, lakehouse)
    return bronze_rows(lakehouse)


def test_rows_stay_as_they_are_in_fewer_files(landing: Path, lakehouse: Path) -> None:
    before = landed_in_small_commits(landing, lakehouse)
    done = compact(table(lakehouse), NOW)
    assert (done.files_before, done.files_after) == (SMALL_COMMITS, 1)
    assert bronze_rows(lakehouse) == before


def test_landing_goes_on_where_it_was(
    broker: str, new_topic: Callable[..., str], send: Callable[..., None], lakehouse: Path
) -> None:
    topic = new_topic([b'{"id":1}'])
    feed = kafka_feed(broker, topic)
    first = land(feed, lakehouse)
    compact(table(lakehouse, "events"), NOW)
    send(topic, [b'{"id":2}'])
    second = land(feed, lakehouse)
    assert (second.batch_id, second.landed) == (first.batch_id + 1, 1)
    assert_exactly_once(lakehouse, "events", 2)


def test_a_reader_that_began_before_still_finds_its_files(landing: Path, lakehouse: Path) -> None:
    landed_in_small_commits(landing, lakehouse)
    reader = DeltaTable(lakehouse / "bronze" / "visits")
    files = [Path(uri) for uri in reader.file_uris()]
    assert compact(table(lakehouse), NOW).files_deleted == 0
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


def test_rows_past_their_age_are_deleted_and_no_others(landing: Path, lakehouse: Path) -> None:
    feed = file_feed(landing)
    for days in (40, 31, 29, 0):
        (landing / f"{days}.ndjson").write_text(f'{{"id":{days}}}\n')
        run_once([feed], ["visits"], lakehouse, lambda days=days: NOW - timedelta(days=days))  # type: ignore[misc]  # a default binds the loop's value
    done = compact(table(lakehouse), NOW, retain_days=30)
    assert done.rows_deleted == 2
    assert sorted(str(row["value"]) for row in bronze_rows(lakehouse)) == ['{"id":0}', '{"id":29}']
    assert compact(table(lakehouse), NOW, retain_days=30).rows_deleted == 0


def test_a_file_whose_rows_went_for_their_age_is_not_landed_again_when_the_ledger_is_lost(
    landing: Path, lakehouse: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed = replace(file_feed(landing), retain_days=30)
    old, new = landing / "old.ndjson", landing / "new.ndjson"
    old.write_text('{"id":1}\n')
    run_once([feed], ["visits"], lakehouse, lambda: NOW)
    later = NOW + timedelta(days=40)
    compact(table(lakehouse), later, retain_days=30)
    (lakehouse / "ingest" / "ledger.sqlite").unlink()
    new.write_text('{"id":2}\n')
    for path, at in ((old, NOW), (new, later)):
        os.utime(path, (at.timestamp(), at.timestamp()))
    with caplog.at_level(logging.WARNING):
        run_once([feed], ["visits"], lakehouse, lambda: later)
    assert [row["value"] for row in bronze_rows(lakehouse)] == ['{"id":2}']
    assert "1 files older than retain_days count as landed" in caplog.text


def test_a_continuous_run_merges_its_files_by_itself(landing: Path, lakehouse: Path) -> None:
    feed = file_feed(landing)
    before = landed_in_small_commits(landing, lakehouse)
    upkeep = Upkeep(lakehouse, [feed], lambda: NOW)
    for _ in range(COMMITS_PER_COMPACTION - 1):
        upkeep.committed("visits", rejected=1)
    assert len(DeltaTable(table(lakehouse)).file_uris()) == SMALL_COMMITS
    upkeep.committed("visits", rejected=1)
    upkeep.close()
    assert len(DeltaTable(table(lakehouse)).file_uris()) == 1
    assert len(DeltaTable(lakehouse / "quarantine").file_uris()) == 1
    assert bronze_rows(lakehouse) == before
    assert len(quarantine_rows(lakehouse)) == SMALL_COMMITS
