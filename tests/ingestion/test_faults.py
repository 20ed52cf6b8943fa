"""What a machine does to a job: a full disk, a clock set back, damage, files cleaned up."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, QueryBuilder
from ingestion_helpers import (
    NOW,
    assert_exactly_once,
    bronze_rows,
    file_feed,
    kafka_feed,
    land,
    quarantine_rows,
)

from ingestion import bronze
from ingestion.bronze import Bronze, TopicPartition
from ingestion.maintenance import compact
from ingestion.runner import run_once
from tests.support.ingest import INGEST

ROWS = 5_000
SMALL_DISK = 400 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full; only the superuser can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        if os.environ.get("REQUIRE_ALL") == "1":
            raise AssertionError(done.stderr)
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def random_lines(path: Path) -> None:
    """Lines that do not compress, one of them broken."""
    lines = [json.dumps({"id": n, "text": os.urandom(60).hex()}) for n in range(ROWS - 1)]
    path.write_text("\n".join([*lines, "broken"]) + "\n")


def ingest(folder: Path, landing: Path, before: str = "pass") -> "subprocess.CompletedProcess[str]":
    """Run the command in a process that has executed some Python first.

    Not by preexec_fn: between fork and exec a process with threads may wait for ever.
    """
    feeds = landing.parent / "feeds.yml"
    feed = {"files": {"path": str(landing)}, "format": "ndjson", "key": ["id"]}
    feeds.write_text(yaml.safe_dump({"feeds": {"visits": feed}}))
    command = [INGEST, "run", "--once", "--feeds", feeds, "--lakehouse", folder]
    program = f"import os, resource, signal, sys; {before}; os.execv(sys.argv[1], sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", program, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_full_disk_fails_the_feed_and_what_did_not_fit_is_landed_when_there_is_room(
    landing: Path, small_disk: Path
) -> None:
    random_lines(landing / "a.ndjson")
    lakehouse = small_disk / "lakehouse"
    for _ in range(2):
        done = ingest(lakehouse, landing)
        assert done.returncode == 1, done.stderr
        assert "No space left on device" in done.stderr
        assert bronze_rows(lakehouse) == []
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert ingest(lakehouse, landing).returncode == 0
    assert_exactly_once(lakehouse, "visits", ROWS)


def test_a_limit_of_the_file_size_fails_the_feed_and_loses_nothing(
    landing: Path, lakehouse: Path
) -> None:
    random_lines(landing / "a.ndjson")
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))"
    # Without the signal it is an error, not the end of the process.
    done = ingest(lakehouse, landing, f"signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {limit}")
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert bronze_rows(lakehouse) == []
    assert ingest(lakehouse, landing).returncode == 0
    assert_exactly_once(lakehouse, "visits", ROWS)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_one_core_is_enough(landing: Path, lakehouse: Path) -> None:
    random_lines(landing / "a.ndjson")
    done = ingest(lakehouse, landing, "os.sched_setaffinity(0, {0})")
    assert done.returncode == 0, done.stderr
    assert_exactly_once(lakehouse, "visits", ROWS)


def test_a_clock_that_was_set_back_changes_no_order(
    broker: str,
    new_topic: Callable[..., str],
    send: Callable[..., None],
    landing: Path,
    lakehouse: Path,
) -> None:
    topic = new_topic([b"{}"])
    feeds = [kafka_feed(broker, topic), file_feed(landing, settle_seconds=60)]
    for turn, clock in enumerate((NOW, NOW - timedelta(days=400), NOW)):
        path = landing / f"{turn}.ndjson"
        path.write_text(f'{{"id":{turn}}}\n')
        at = clock.timestamp() - 61
        os.utime(path, (at, at))
        results = run_once(feeds, ["events", "visits"], lakehouse, lambda clock=clock: clock)  # type: ignore[misc]  # a default binds the loop's value
        assert [r.error for r in results] == [None, None]
        send(topic, [b"{}"])
    for feed in ("events", "visits"):
        assert_exactly_once(lakehouse, feed, 3)
        landed = sorted(bronze_rows(lakehouse, feed), key=lambda row: row["batch_id"])
        assert [row["batch_id"] for row in landed] == [1, 2, 3]
        assert landed[1]["ingested_at"] < landed[0]["ingested_at"]


def test_a_corrupt_file_among_good_ones_costs_only_itself(landing: Path, lakehouse: Path) -> None:
    whole = gzip.compress(b'{"id":1}\n{"id":2}\n')
    (landing / "1.ndjson.gz").write_bytes(whole)
    (landing / "2.ndjson.gz").write_bytes(whole[: len(whole) // 2])
    (landing / "3.ndjson.gz").write_bytes(b"no gzip at all")
    (landing / "4.ndjson").write_bytes(os.urandom(1000).replace(b"\n", b""))
    (landing / "5.ndjson").write_bytes(b'{"id":1}\n')
    result = land(file_feed(landing), lakehouse)
    assert result.landed == 3
    rejected = {(Path(r["source"]).name, r["reason"]) for r in quarantine_rows(lakehouse)}
    damaged = "the compressed file is damaged or cut off; the rest of it cannot be read"
    assert {("2.ndjson.gz", damaged), ("3.ndjson.gz", damaged)} <= rejected
    assert {name for name, _ in rejected} == {"2.ndjson.gz", "3.ndjson.gz", "4.ndjson"}
    assert {Path(row["source"]).name for row in bronze_rows(lakehouse)} == {
        "1.ndjson.gz",
        "5.ndjson",
    }
    assert land(file_feed(landing), lakehouse).batches == 0


def test_a_reader_in_the_middle_reads_on_while_bronze_is_compacted_and_vacuumed(
    landing: Path, lakehouse: Path
) -> None:
    for n in range(20):
        (landing / f"{n:02}.ndjson").write_text(f'{{"id":{n}}}\n')
    land(file_feed(landing, batch_files=1), lakehouse)
    reader = QueryBuilder().register("t", DeltaTable(lakehouse / "bronze" / "visits"))
    batches = iter(reader.execute("select value from t"))
    seen = pa.record_batch(next(batches)).num_rows
    compact(str(lakehouse / "bronze" / "visits"), NOW)
    assert len(DeltaTable(lakehouse / "bronze" / "visits").file_uris()) == 1
    assert seen + sum(pa.record_batch(batch).num_rows for batch in batches) == 20


def test_a_writer_goes_on_after_the_log_behind_it_was_cleaned_up(
    lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bronze, "_LOG_RETENTION", "interval 0 seconds")
    at = TopicPartition("t", 0)
    slow, fast = Bronze(lakehouse, "events"), Bronze(lakehouse, "events")
    for n in range(1, 6):
        fast.append([], n, {at: n}, NOW)
    table = DeltaTable(lakehouse / "bronze" / "events")
    table.create_checkpoint()
    table.cleanup_metadata()
    log = lakehouse / "bronze" / "events" / "_delta_log"
    assert not (log / f"{1:020}.json").exists()
    slow.refresh()
    assert (slow.batch_id, slow.next_offset(at)) == (5, 5)
    slow.append([], 6, {at: 6}, NOW)
    assert DeltaTable(lakehouse / "bronze" / "events").transaction_version("ingest:events") == 6
