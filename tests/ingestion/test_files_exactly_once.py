"""Feeds of files: each record of each file is landed once, whatever happens in between."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from ingestion_helpers import (
    CRASH_STEP,
    NOW,
    assert_exactly_once,
    bronze_rows,
    crash_before_line,
    file_feed,
    land,
    positions,
    quarantine_rows,
    with_options,
)

from ingestion import bronze, files, ledger
from ingestion.config import Feed, FileOptions
from ingestion.storage import Folder, list_files

# The lines between which a crash must not lose or repeat anything.
PROTOCOL = [
    files.FileSource.land,
    files.FileSource._turn,
    files.FileSource._repair,
    files.FileSource._land_group,
    files.FileSource._land_plan,
    files.FileSource._claim,
    files.FileSource._read,
    files.FileSource.read,
    files.FileSource.open,
    ledger.Ledger.plan,
    ledger.Ledger.unplan,
    ledger.Ledger.take_over,
    ledger.Ledger._insert,
    bronze.Tables.batch,
    bronze.Tables.claim,
    bronze.BatchInProgress.add,
    bronze.BatchInProgress.reject,
    bronze.BatchInProgress.commit,
    bronze.BatchInProgress._commit_rejects,
    bronze._Table.claim,
    bronze._Table._commit,
    bronze.Rows.add,
    bronze.Rows._take,
    bronze.Rows._write,
    bronze.Rows.finish,
    bronze.Quarantine.commit,
    bronze.Quarantine.withdraw,
    bronze.Bronze.commit,
]


def write(folder: Path, name: str, *lines: str, age: int = 100) -> Path:
    """Write a file that was modified `age` seconds before NOW."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    stamp = int(NOW.timestamp()) - age
    os.utime(path, (stamp, stamp))
    return path


def test_a_file_is_landed_once_however_often_the_job_runs(lakehouse: Path, landing: Path) -> None:
    write(landing, "a.ndjson", '{"id":1}', "broken", '{"id":2}')
    feed = file_feed(landing)
    first = land(feed, lakehouse)
    again = land(feed, lakehouse)
    assert (first.landed, first.rejected, first.batch_id) == (2, 1, 1)
    assert (again.landed, again.rejected, again.batches, again.batch_id) == (0, 0, 0, 1)
    assert_exactly_once(lakehouse, "visits", 3)


def test_a_landed_row_tells_where_it_comes_from(lakehouse: Path, landing: Path) -> None:
    path = write(landing, "a.ndjson", '{"id": 1, "amount": 1.10000000000000000000001}', "oops")
    land(file_feed(landing), lakehouse)
    (row,) = bronze_rows(lakehouse)
    facts = path.stat()
    assert row["source"] == str(path)
    assert (row["partition"], row["position"], row["batch_id"]) == (0, 1, 1)
    assert row["key"] == '{"id":1}'
    assert row["value"] == '{"id": 1, "amount": 1.10000000000000000000001}'
    assert row["headers"] == {
        "size": str(facts.st_size),
        "mtime_ns": str(facts.st_mtime_ns),
        "format": "ndjson",
    }
    assert row["source_timestamp"].timestamp() == facts.st_mtime
    assert row["ingested_at"] == NOW
    (reject,) = quarantine_rows(lakehouse)
    assert (reject["feed"], reject["position"], reject["value"]) == ("visits", 2, "oops")
    assert reject["batch_id"] == 1
    assert reject["reason"].startswith("not valid JSON")


@pytest.mark.parametrize("between", ["nothing", "file changes", "file vanishes", "key setting"])
def test_a_crash_before_any_line_loses_and_repeats_nothing(
    tmp_path: Path, landing: Path, between: str
) -> None:
    feed = file_feed(landing, batch_files=2)
    number, visits = 0, 2 if between == "nothing" else 1
    while True:
        number += CRASH_STEP
        write(landing, "a.ndjson", '{"id":1}', "broken", '{"id":2}', age=300)
        write(landing, "b.ndjson", '{"id":3}', '{"other":1}', age=200)
        write(landing, "c.ndjson", "broken", '{"id":4}', age=100)
        lakehouse = tmp_path / str(number)
        with crash_before_line(number, PROTOCOL, visits) as reached:
            land(feed, lakehouse)
        seen = {Path(r["source"]).name for r in bronze_rows(lakehouse)}
        expected = 7
        rerun = feed
        if between == "file changes" and "b.ndjson" not in seen:
            write(landing, "b.ndjson", "broken", "broken too", '{"id":3}', age=50)
            expected = 8
        if between == "file vanishes" and "b.ndjson" not in seen:
            (landing / "b.ndjson").unlink()
            expected = 5
        if between == "key setting":
            rerun = replace(feed, key=("other",))
        land(rerun, lakehouse)
        assert_exactly_once(lakehouse, "visits", expected)
        if not reached:
            break
    assert number > 50  # the protocol was really walked through


def test_a_kill_between_the_two_commits_is_repaired_by_the_next_run(
    lakehouse: Path, landing: Path
) -> None:
    write(landing, "a.ndjson", '{"id":1}', "broken")
    program = (
        "import os, sys; from pathlib import Path; from ingestion import bronze;"
        "sys.path.insert(0, sys.argv[3]); from ingestion_helpers import file_feed, land;"
        "real = bronze.BatchInProgress._commit_rejects;"
        "bronze.BatchInProgress._commit_rejects = lambda batch: (real(batch), os._exit(137));"
        "land(file_feed(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    here = str(Path(__file__).parent)
    killed = subprocess.run(
        [sys.executable, "-c", program, str(landing), str(lakehouse), here], check=False
    )
    assert killed.returncode == 137
    assert len(quarantine_rows(lakehouse)) == 1
    assert bronze_rows(lakehouse) == []
    land(file_feed(landing), lakehouse)
    assert_exactly_once(lakehouse, "visits", 2)


def test_a_batch_is_a_bounded_number_of_files_and_bytes(lakehouse: Path, landing: Path) -> None:
    for i in range(5):
        write(landing, f"{i}.ndjson", f'{{"id":{i}}}', age=100 - i)
    result = land(file_feed(landing, batch_files=2), lakehouse)
    assert (result.batches, result.batch_id) == (3, 3)
    assert [r["batch_id"] for r in bronze_rows(lakehouse)] == [1, 1, 2, 2, 3]
    by_size = land(file_feed(landing, batch_bytes=1), lakehouse.with_name("other"))
    assert by_size.batches == 5


def test_files_are_landed_oldest_first(lakehouse: Path, landing: Path) -> None:
    write(landing, "a.ndjson", '{"id":1}', age=10)
    write(landing, "b.ndjson", '{"id":2}', age=20)
    land(file_feed(landing, batch_files=1), lakehouse)
    assert {Path(r["source"]).name: r["batch_id"] for r in bronze_rows(lakehouse)} == {
        "b.ndjson": 1,
        "a.ndjson": 2,
    }


def test_an_empty_file_is_landed_with_no_record_and_not_looked_at_again(
    lakehouse: Path, landing: Path
) -> None:
    write(landing, "empty.ndjson")
    result = land(file_feed(landing), lakehouse)
    assert (result.batches, result.landed, result.rejected) == (1, 0, 0)
    assert land(file_feed(landing), lakehouse).batches == 0


def test_what_is_still_being_written_is_left_alone(lakehouse: Path, landing: Path) -> None:
    for name in (".hidden", "a.ndjson.tmp", "b.part", "c_", ".folder/d.ndjson"):
        write(landing, name, '{"id":1}')
    write(landing, "sub/e.ndjson", '{"id":1}')
    assert land(file_feed(landing, glob="**/*"), lakehouse).landed == 1
    assert positions(bronze_rows(lakehouse)) == [("e.ndjson", 0, 1)]


def test_two_files_of_one_name_in_two_folders_are_two_files(lakehouse: Path, landing: Path) -> None:
    write(landing, "x/a.ndjson", '{"id":1}')
    write(landing, "y/a.ndjson", '{"id":1}')
    assert land(file_feed(landing, glob="*/*.ndjson"), lakehouse).landed == 2
    assert len({r["source"] for r in bronze_rows(lakehouse)}) == 2


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.csv", {"a.csv"}),
        ("*/*.csv", {"x/b.csv"}),
        ("**/*.csv", {"a.csv", "x/b.csv", "x/y/c.csv"}),
        ("x/**/*.csv", {"x/b.csv", "x/y/c.csv"}),
        ("?.tsv", {"d.tsv"}),
    ],
)
def test_a_glob_matches_within_folders_and_across_them(
    landing: Path, glob: str, found: set[str]
) -> None:
    for name in ("a.csv", "x/b.csv", "x/y/c.csv", "d.tsv", "dd.tsv"):
        write(landing, name)
    assert {os.path.relpath(p, landing) for p in list_files(landing, glob)} == found


def test_a_landed_file_that_changes_is_reported_once_per_change(
    lakehouse: Path, landing: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed = file_feed(landing)
    write(landing, "a.ndjson", '{"id":1}')
    land(feed, lakehouse)
    for content in ('{"id":2}', '{"id":30}'):
        write(landing, "a.ndjson", content, age=5)
        caplog.clear()
        assert land(feed, lakehouse).landed == 0
        assert ["changed after it was landed" in r.message for r in caplog.records] == [True]
        caplog.clear()
        land(feed, lakehouse)
        assert caplog.records == []
    assert [r["value"] for r in bronze_rows(lakehouse)] == ['{"id":1}']


def test_a_file_that_changes_while_it_is_read_is_landed_whole_later(
    lakehouse: Path, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(landing, "a.ndjson", '{"id":1}', age=20)
    write(landing, "b.ndjson", '{"id":2}', age=10)
    real = files.read_records

    def grow(stream, *arguments):  # type: ignore[no-untyped-def]  # passes everything on
        yield from real(stream, *arguments)
        if stream.name.endswith("a.ndjson"):
            write(landing, "a.ndjson", '{"id":1}', '{"id":3}', age=1)

    monkeypatch.setattr(files, "read_records", grow)
    assert land(file_feed(landing), lakehouse).landed == 1
    monkeypatch.setattr(files, "read_records", real)
    assert land(file_feed(landing), lakehouse).landed == 2
    assert_exactly_once(lakehouse, "visits", 3)


def test_a_file_that_may_not_be_read_is_said_and_keeps_no_other_from_landing(
    lakehouse: Path, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(landing, "a.ndjson", '{"id":1}')
    write(landing, "b.ndjson", '{"id":2}')

    def refuse(self: Folder, path: str) -> IO[bytes]:  # a mode of 0 would not stop the superuser
        if path.endswith("a.ndjson"):
            raise PermissionError(13, "Permission denied")
        return Path(path).open("rb")

    monkeypatch.setattr(Folder, "open", refuse)
    result = land(file_feed(landing), lakehouse, fail=True)
    assert result.landed == 1
    assert result.error is not None
    assert "a.ndjson: Permission denied" in result.error


def test_a_file_that_fails_while_it_is_read_is_said_and_landed_when_it_can_be_read(
    lakehouse: Path, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(landing, "a.ndjson", '{"id":1}')
    write(landing, "b.ndjson", '{"id":2}')
    real = files.read_records

    def fail(stream, *arguments):  # type: ignore[no-untyped-def]  # passes everything on
        if stream.name.endswith("a.ndjson"):
            raise OSError(5, "Input/output error")
        return real(stream, *arguments)

    monkeypatch.setattr(files, "read_records", fail)
    result = land(file_feed(landing), lakehouse, fail=True)
    assert result.landed == 1
    assert result.error is not None
    assert "a.ndjson: Input/output error" in result.error
    monkeypatch.setattr(files, "read_records", real)
    assert land(file_feed(landing), lakehouse).landed == 1
    assert_exactly_once(lakehouse, "visits", 2)


def test_a_lost_ledger_is_rebuilt_from_the_tables(
    lakehouse: Path, landing: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(landing, "a.ndjson", '{"id":1}', "broken", age=30)
    write(landing, "rejects.ndjson", "broken", age=20)
    write(landing, "empty.ndjson", age=10)
    feed = file_feed(landing, batch_files=1)
    land(feed, lakehouse)
    (lakehouse / "ingest" / "ledger.sqlite").unlink()
    (landing / "empty.ndjson").unlink()  # the last batch has left no row, and now no file
    assert land(feed, lakehouse).batches == 0
    assert "rebuilding it from the tables" in caplog.text
    write(landing, "b.ndjson", '{"id":2}', age=5)
    caplog.clear()
    land(feed, lakehouse)
    assert "rebuilding" not in caplog.text
    assert_exactly_once(lakehouse, "visits", 4)


def test_a_ledger_lost_in_an_unfinished_batch_repeats_no_reject(
    lakehouse: Path, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(landing, "a.ndjson", '{"id":1}', "broken")
    feed = file_feed(landing)
    with crash_before_line(1, [bronze.Bronze.commit]) as reached:
        land(feed, lakehouse)
    assert reached
    assert len(quarantine_rows(lakehouse)) == 1
    (lakehouse / "ingest" / "ledger.sqlite").unlink()
    land(feed, lakehouse)
    assert_exactly_once(lakehouse, "visits", 2)


def test_a_second_process_does_not_plan_the_same_feed(
    lakehouse: Path, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
    write(landing, "a.ndjson", '{"id":1}')
    feed = file_feed(landing)
    holder = files.FileSource(feed, feed.source, lakehouse / "ingest")  # type: ignore[arg-type]  # a file feed's
    with holder.lock():
        result = land(feed, lakehouse, fail=True)
    assert result.error is not None
    assert "another process is landing this feed" in result.error
    assert land(feed, lakehouse).landed == 1


def source_with_state(feed: Feed, state: Path) -> files.FileSource:
    assert isinstance(feed.source, FileOptions)
    return files.FileSource(feed, feed.source, state)


def test_machines_that_take_turns_each_with_a_ledger_of_its_own_land_each_file_once(
    lakehouse: Path, landing: Path, tmp_path: Path
) -> None:
    feed = file_feed(landing)
    for turn in range(4):
        write(landing, f"{turn}.ndjson", f'{{"id":{turn}}}', "broken", age=100 - turn)
        source = source_with_state(feed, tmp_path / f"machine_{turn % 2}")
        (batch,) = source.land(bronze.Tables(lakehouse, "visits", lambda: NOW))
        assert (batch.landed, batch.rejected) == (1, 1)
    assert_exactly_once(lakehouse, "visits", 8)


def test_a_machine_that_was_overtaken_by_another_lands_the_rest_of_its_plan(
    lakehouse: Path, landing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(landing, "a.ndjson", '{"id":1}')
    write(landing, "b.ndjson", '{"id":2}')
    feed = file_feed(landing)
    real, overtaken = bronze.Bronze.commit, []

    def overtake(*arguments: Any) -> None:
        if not overtaken:
            overtaken.append(True)
            other = source_with_state(with_options(feed, glob="a.ndjson"), tmp_path / "other")
            assert len(list(other.land(bronze.Tables(lakehouse, "visits", lambda: NOW)))) == 1
        real(*arguments)

    monkeypatch.setattr(bronze.Bronze, "commit", overtake)
    assert land(feed, lakehouse).landed == 1
    assert overtaken
    assert_exactly_once(lakehouse, "visits", 2)


def test_what_another_process_landed_meanwhile_is_not_landed_again(
    lakehouse: Path, landing: Path
) -> None:
    write(landing, "a.ndjson", '{"id":1}', "broken")
    feed = file_feed(landing)
    tables = bronze.Tables(lakehouse, "visits", lambda: NOW)
    land(feed, lakehouse)
    source = files.FileSource(feed, feed.source, lakehouse / "ingest")  # type: ignore[arg-type]  # a file feed's
    assert list(source.land(tables)) == []
    assert_exactly_once(lakehouse, "visits", 2)


def test_a_commit_that_comes_first_makes_the_batch_be_redone(
    lakehouse: Path, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another feed's process may rewrite quarantine, or a compaction bronze, at any time."""
    write(landing, "a.ndjson", '{"id":1}', "broken")
    real, refused = bronze.Bronze.commit, []

    def refuse_once(*arguments) -> None:  # type: ignore[no-untyped-def]  # passes everything on
        if not refused:
            refused.append(True)
            raise bronze.ConflictError("overtaken")
        real(*arguments)

    monkeypatch.setattr(bronze.Bronze, "commit", refuse_once)
    assert land(file_feed(landing), lakehouse).landed == 1
    assert_exactly_once(lakehouse, "visits", 2)


def test_a_batch_far_larger_than_what_is_held_lands_the_same(
    lakehouse: Path, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bronze, "PIECE_BYTES", 1)
    monkeypatch.setattr("ingestion.formats._BLOCK_BYTES", 100)
    lines = [f'{{"id":{i}}}' if i % 7 else "broken" for i in range(100)]
    write(landing, "a.ndjson", *lines)
    land(file_feed(landing), lakehouse)
    assert_exactly_once(lakehouse, "visits", 100)
    assert [r["value"] for r in bronze_rows(lakehouse)] == [v for v in lines if v != "broken"]
    leftover = {p.name for p in (lakehouse / "ingest").iterdir()}
    assert leftover == {"ledger.sqlite", "visits.lock"}


def test_the_job_refuses_a_batch_id_that_does_not_rise(lakehouse: Path, landing: Path) -> None:
    write(landing, "a.ndjson", '{"id":1}')
    land(file_feed(landing), lakehouse)
    table = bronze.Bronze(lakehouse, "visits")
    with pytest.raises(bronze.FeedError, match="refusing batch 1"):
        table.append([], 1, {}, NOW)
    at = bronze.TopicPartition("t", 0)
    table.append([], 2, {at: 10}, NOW)
    with pytest.raises(bronze.FeedError, match="refusing to set ingest:visits:t:0 back"):
        table.append([], 3, {at: 9}, NOW)
    assert (table.batch_id, table.next_offset(at)) == (2, 10)


def test_of_two_racing_writers_the_second_is_refused(lakehouse: Path) -> None:
    bronze.Bronze(lakehouse, "visits")
    first, second = (bronze.Bronze(lakehouse, "visits") for _ in range(2))
    first.append([], 1, {}, NOW)
    with pytest.raises(bronze.ConflictError):
        second.append([], 1, {}, NOW)
    second.refresh()
    assert second.batch_id == 1


def test_nothing_is_built_upon_a_commit_that_another_has_followed_unseen(lakehouse: Path) -> None:
    first, second = (bronze.Bronze(lakehouse, "visits") for _ in range(2))
    at, real = bronze.TopicPartition("t", 0), first.refresh

    def refresh() -> None:
        """Between a commit and the sight of it, another process lands what would come next."""
        if second.batch_id == 0:
            second.refresh()
            second.append([], 2, {at: 20}, NOW)
        real()

    first.refresh = refresh  # type: ignore[method-assign]
    first.append([], 1, {at: 10}, NOW)
    with pytest.raises(bronze.ConflictError):
        first.append([], 3, {at: 20}, NOW)
    first.refresh()
    assert (first.batch_id, first.next_offset(at)) == (2, 20)
    first.append([], 3, {at: 30}, NOW)
    assert first.next_offset(at) == 30


def test_a_batch_that_fails_leaves_no_file(
    lakehouse: Path, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(landing, "a.ndjson", '{"id":1}', "broken")
    monkeypatch.setattr(bronze, "PIECE_BYTES", 1)  # so it was begun

    def fail(*arguments: object) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(bronze.Quarantine, "commit", fail)
        assert land(file_feed(landing), lakehouse, fail=True).error == "no room"
    assert not list(lakehouse.glob("**/part-*"))
    assert land(file_feed(landing), lakehouse).landed == 1


def test_statistics_cover_the_watermark_and_the_address_only(
    lakehouse: Path, landing: Path
) -> None:
    write(landing, "a.ndjson", '{"id":1}')
    land(file_feed(landing), lakehouse)
    # Version 1 claims the feed.
    log = (lakehouse / "bronze" / "visits" / "_delta_log" / f"{2:020}.json").read_text()
    assert r"\"batch_id\":1" in log
    assert r"\"value\"" not in log
