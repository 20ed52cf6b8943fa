"""Files that change, are not finished, or have other columns than before."""

import os
from pathlib import Path

import pytest
from ingestion_helpers import (
    CRASH_STEP,
    assert_exactly_once,
    bronze_rows,
    crash_before_line,
    file_feed,
    land,
    with_options,
)
from test_files_exactly_once import PROTOCOL, write

from ingestion.bronze import Bronze
from ingestion.files import FileSource
from ingestion.storage import list_files


def addresses(lakehouse: Path) -> list[tuple[str, int, int, str]]:
    found = bronze_rows(lakehouse)
    return [(Path(r["source"]).name, r["partition"], r["position"], r["value"]) for r in found]


def test_a_changed_file_can_be_landed_again_as_its_next_version(
    lakehouse: Path, landing: Path
) -> None:
    feed = file_feed(landing, on_change="land_again")
    for i in range(3):
        write(landing, "a.ndjson", f'{{"id":{i}}}', age=50 - i)
        assert land(feed, lakehouse).landed == 1
        assert land(feed, lakehouse).batches == 0
    assert addresses(lakehouse) == [
        ("a.ndjson", 0, 1, '{"id":0}'),
        ("a.ndjson", 1, 1, '{"id":1}'),
        ("a.ndjson", 2, 1, '{"id":2}'),
    ]


def test_versions_go_on_after_the_ledger_was_lost(lakehouse: Path, landing: Path) -> None:
    feed = file_feed(landing, on_change="land_again")
    for i in range(3):
        write(landing, "a.ndjson", f'{{"id":{i}}}', "broken", age=50 - i)
        land(feed, lakehouse)
        (lakehouse / "ingest" / "ledger.sqlite").unlink()
    assert land(feed, lakehouse).batches == 0
    assert_exactly_once(lakehouse, "visits", 6)


def test_a_crash_while_a_change_is_landed_loses_and_repeats_nothing(
    tmp_path: Path, landing: Path
) -> None:
    feed = file_feed(landing, on_change="land_again")
    number = 0
    while True:
        number += CRASH_STEP
        lakehouse = tmp_path / str(number)
        write(landing, "a.ndjson", '{"id":1}', age=90)
        land(feed, lakehouse)
        write(landing, "a.ndjson", '{"id":2}', "broken", age=80)
        with crash_before_line(number, PROTOCOL) as reached:
            land(feed, lakehouse)
        expected = 3
        if len(bronze_rows(lakehouse)) == 1:  # it changes again before it is in
            write(landing, "a.ndjson", "broken", "broken", '{"id":3}', age=70)
            expected = 4
        land(feed, lakehouse)
        assert_exactly_once(lakehouse, "visits", expected)
        assert {row[1] for row in addresses(lakehouse)} == {0, 1}
        if not reached:
            break
    assert number > 20


def test_a_file_is_left_alone_until_it_has_settled(lakehouse: Path, landing: Path) -> None:
    write(landing, "a.ndjson", '{"id":1}', age=10)
    feed = file_feed(landing, settle_seconds=11)
    assert land(feed, lakehouse).batches == 0
    assert land(with_options(feed, settle_seconds=10), lakehouse).landed == 1


@pytest.mark.parametrize(
    ("marker", "name"), [("_SUCCESS", "x/_SUCCESS"), ("*.done", "x/a.ndjson.done")]
)
def test_a_file_is_left_alone_until_its_marker_is_there(
    lakehouse: Path, landing: Path, marker: str, name: str
) -> None:
    write(landing, "x/a.ndjson", '{"id":1}')
    write(landing, "y/a.ndjson", '{"id":1}')
    feed = file_feed(landing, marker=marker, glob="**/*")
    assert land(feed, lakehouse).batches == 0
    write(landing, name, "no record")
    result = land(feed, lakehouse)
    assert (result.landed, result.rejected) == (1, 0)


def test_new_and_lacking_columns_are_landed_kept_and_reported(
    lakehouse: Path, landing: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed = file_feed(landing, "csv")
    write(landing, "a.csv", "id,a", "1,2", age=30)
    land(feed, lakehouse)
    assert caplog.records == []
    write(landing, "b.csv", "id,b", "3,4", age=20)
    write(landing, "c.csv", "id,b", "5,6", age=10)
    land(feed, lakehouse)
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2
    assert "new column 'b' in" in said[0]
    assert "2 files lack the known columns a, the first is" in said[1]
    assert "b.csv" in said[1]
    assert [row[3] for row in addresses(lakehouse)] == [
        '{"id":"1","a":"2"}',
        '{"id":"3","b":"4"}',
        '{"id":"5","b":"6"}',
    ]
    source = FileSource(feed, feed.source, lakehouse / "ingest")  # type: ignore[arg-type]  # a file feed's
    assert source.columns() == {"a": 1, "id": 1, "b": 2}


def test_an_object_may_leave_fields_out_but_new_ones_are_reported(
    lakehouse: Path, landing: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed = file_feed(landing)
    write(landing, "a.ndjson", '{"id":1,"a":2}', '{"id":1}', age=30)
    land(feed, lakehouse)
    write(landing, "b.ndjson", '{"id":1,"b":2}', age=20)
    land(feed, lakehouse)
    assert ["new column 'b'" in r.getMessage() for r in caplog.records] == [True]


def test_columns_of_the_settings_are_missed_in_the_first_file(
    lakehouse: Path, landing: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(landing, "a.csv", "id", "1")
    land(file_feed(landing, "csv", columns=("id", "a")), lakehouse)
    assert ["lack the known columns a" in r.getMessage() for r in caplog.records] == [True]


def test_the_lag_counts_changes_that_will_be_landed(lakehouse: Path, landing: Path) -> None:
    feed = file_feed(landing, on_change="land_again")
    source = FileSource(feed, feed.source, lakehouse / "ingest")  # type: ignore[arg-type]  # a file feed's
    write(landing, "a.ndjson", '{"id":1}')
    table = Bronze(lakehouse, "visits")
    assert source.lag(table)["files"] == 1
    land(feed, lakehouse)
    table.refresh()
    assert source.lag(table)["files"] == 0
    write(landing, "a.ndjson", '{"id":2}', age=1)
    assert source.lag(table) == {"files": 1, "bytes": 9}


def test_a_listing_follows_no_link_to_a_folder_and_finds_linked_files(landing: Path) -> None:
    write(landing, "x/a.csv", "id")
    (landing / "y").symlink_to(landing / "x")
    (landing / "b.csv").symlink_to(landing / "x" / "a.csv")
    found = {os.path.relpath(p, landing) for p in list_files(landing, "**/*.csv")}
    assert found == {"x/a.csv", "b.csv"}
