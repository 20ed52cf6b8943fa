"""Streams land each record once, wherever they are stopped, and whichever engine goes on."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from ingestion import spark as spark_engine
from ingestion.bronze import Tables
from ingestion.config import Feed, FileOptions, KafkaOptions
from ingestion.errors import FeedError
from ingestion.runner import FeedResult, run_once
from tests.ingestion.ingestion_helpers import NOW, bronze_rows, quarantine_rows
from tests.ingestion.ingestion_helpers import land as land_without_spark

NewTopic = Callable[..., str]
Send = Callable[..., None]


def kafka_feed(name: str, broker: str, *topics: str, **options: Any) -> Feed:
    source = KafkaOptions(topics, {"bootstrap.servers": broker}, **options)
    return Feed(name, "json", source, ("id",), file="feeds.yml")


def file_feed(name: str, folder: Path, *files: bytes, **options: Any) -> Feed:
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.iterdir()))
    for n, text in enumerate(files, number):
        (folder / f"{n}.ndjson").write_bytes(text)
    return Feed(name, "ndjson", FileOptions(folder, **options), ("id",), file="feeds.yml")


def numbers(start: int, end: int) -> list[bytes]:
    return [b'{"id":%d}' % n for n in range(start, end)]


def lines(start: int, end: int) -> bytes:
    return b"\n".join(numbers(start, end)) + b"\n"


def land(lakehouse: Path, spark: Any, *feeds: Feed, **given: Any) -> list[FeedResult]:
    """Land what is there now; a failure is a test's failure."""
    results = spark_engine.run_once(feeds, [f.name for f in feeds], lakehouse, spark, **given)
    assert [result.error for result in results] == [None] * len(feeds)
    return results


def addresses(lakehouse: Path, feed: str) -> list[tuple[str, int, int]]:
    """Every address of a feed in both tables, in order."""
    rejects = [row for row in quarantine_rows(lakehouse) if row["feed"] == feed]
    found = [*bronze_rows(lakehouse, feed), *rejects]
    return sorted((Path(r["source"]).name, r["partition"], r["position"]) for r in found)


def batches(lakehouse: Path, feed: str) -> list[int]:
    return sorted({row["batch_id"] for row in bronze_rows(lakehouse, feed)})


def test_a_batch_whose_process_is_killed_is_landed_once_wherever_it_was(
    broker: str,
    new_topic: NewTopic,
    send: Send,
    lakehouse: Path,
    tmp_path: Path,
    spark: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    class Dying(spark_engine.Landing):
        """Dies where the feed's name says. In here, so that Spark is sent its code."""

        def __call__(self, batch: Any, epoch: int) -> None:
            super().__call__(batch, epoch)
            kill()

        def land_rows(self, judged: Any, batch_id: int) -> int | None:
            if "before_rows" in self.places.feed:
                kill()
            return super().land_rows(judged, batch_id)

        def land_rejects(self, judged: Any, batch_id: int, *, is_repeated: bool) -> None:
            if "before_rejects" in self.places.feed:
                kill()
            super().land_rejects(judged, batch_id, is_repeated=is_repeated)

    points = ("before_rows", "before_rejects", "before_end", "before_rejects_changed")
    topic = new_topic([*numbers(0, 20), b"no json", b'{"other":1}'], numbers(20, 40))
    feeds = [kafka_feed(point, broker, topic) for point in points]
    folder = tmp_path / "landing"
    feeds.append(file_feed("files_before_rejects", folder, lines(0, 3), b'no json\n{"id":3}\n'))
    names = [feed.name for feed in feeds]
    with monkeypatch.context() as patch:
        patch.setattr(spark_engine, "Landing", Dying)
        died = spark_engine.run_once(feeds, names, lakehouse, spark)
    assert all(result.error for result in died)
    landed = [len(bronze_rows(lakehouse, name)) for name in names]
    assert landed == [0, 40, 40, 40, 4]
    assert {row["feed"] for row in quarantine_rows(lakehouse)} == {"before_end"}

    send(topic, numbers(40, 50), 1)
    file_feed("files", folder, lines(4, 6))
    # Another key since: what was rejected would be landed now, and what was landed rejected.
    feeds[3] = replace(feeds[3], key=("other",))
    first, second = [(topic, 0, n) for n in range(22)], [(topic, 1, n) for n in range(30)]
    results = land(lakehouse, spark, *feeds)
    for name in points:
        assert addresses(lakehouse, name) == first + second
        assert batches(lakehouse, name) == ([1] if "changed" in name else [1, 2])
    # Of a batch that had its rows before, the run tells nothing.
    assert [result.landed + result.rejected for result in results] == [52, 10, 10, 10, 2]
    assert addresses(lakehouse, names[4]) == [
        *(("0.ndjson", 0, n) for n in (1, 2, 3)),
        *(("1.ndjson", 0, n) for n in (1, 2)),
        *(("2.ndjson", 0, n) for n in (1, 2)),
    ]
    changed = [row for row in quarantine_rows(lakehouse) if row["feed"] == points[3]]
    reasons = {row["position"]: row["reason"] for row in changed if row["batch_id"] == 1}
    assert reasons.keys() == {20, 21}
    assert reasons[21] == spark_engine.JUDGED_OTHERWISE

    again = land(lakehouse, spark, feeds[0], feeds[-1])
    assert [(result.batches, result.landed) for result in again] == [(0, 0)] * 2


def test_what_one_engine_lands_the_other_leaves_alone_until_it_takes_over(
    broker: str, new_topic: NewTopic, send: Send, lakehouse: Path, tmp_path: Path, spark: Any
) -> None:
    topic = new_topic([*numbers(0, 5), b"no json"], numbers(5, 8))
    events = kafka_feed("events", broker, topic)
    files = file_feed("visits", tmp_path / "landing", lines(0, 3))
    land_without_spark(events, lakehouse)
    land_without_spark(files, lakehouse)
    send(topic, numbers(8, 10))
    file_feed("visits", tmp_path / "landing", lines(3, 5))
    names = ["events", "visits"]
    refused = spark_engine.run_once([events, files], names, lakehouse, spark)
    assert [(r.landed, "--take-over" in (r.error or "")) for r in refused] == [(0, True)] * 2

    overtaken = Tables(lakehouse, "events", lambda: NOW)
    results = land(lakehouse, spark, events, files, take_over=True)
    assert [(r.batch_id, r.landed) for r in results] == [(2, 2), (2, 2)]
    # Who is about to commit does not know of the claim; the table refuses, and then says why.
    with pytest.raises(FeedError, match="Metadata changed"):
        overtaken.bronze.append([], 2, {}, NOW)
    overtaken.bronze.refresh()
    with pytest.raises(FeedError, match="landed by Spark"):
        overtaken.bronze.expect_engine()
    for feed in (events, files):
        error = land_without_spark(feed, lakehouse, fail=True).error
        assert error is not None and "landed by Spark" in error
    send(topic, numbers(10, 11), 1)
    file_feed("visits", tmp_path / "landing", lines(5, 6))
    results = land(lakehouse, spark, events, files)
    assert [(r.batch_id, r.landed) for r in results] == [(3, 1), (3, 1)]
    assert addresses(lakehouse, "events") == [
        *((topic, 0, n) for n in range(8)),
        *((topic, 1, n) for n in range(4)),
    ]
    assert len(addresses(lakehouse, "visits")) == len(set(addresses(lakehouse, "visits"))) == 6

    # A stream without its checkpoint does not begin anew by itself.
    shutil.rmtree(lakehouse / "checkpoints")
    send(topic, numbers(11, 12), 1)
    file_feed("visits", tmp_path / "landing", lines(6, 7))
    lost = spark_engine.run_once([events, files], names, lakehouse, spark)
    assert [(r.landed, "is gone" in (r.error or "")) for r in lost] == [(0, True)] * 2
    results = land(lakehouse, spark, events, files, take_over=True)
    assert [(r.batch_id, r.landed) for r in results] == [(4, 1), (4, 1)]

    # And back again.
    send(topic, numbers(12, 14), 1)
    file_feed("visits", tmp_path / "landing", lines(7, 8))
    results = run_once([events, files], names, lakehouse, lambda: NOW, take_over=True)
    assert [(r.error, r.batch_id, r.landed) for r in results] == [(None, 5, 2), (None, 5, 1)]
    assert len(addresses(lakehouse, "events")) == len(set(addresses(lakehouse, "events"))) == 15
    assert len(addresses(lakehouse, "visits")) == len(set(addresses(lakehouse, "visits"))) == 8
    refused = spark_engine.run_once([events, files], names, lakehouse, spark)
    assert [(r.landed, "--take-over" in (r.error or "")) for r in refused] == [(0, True)] * 2


def test_a_table_that_copy_into_lands_is_refused_for_good(
    broker: str, new_topic: NewTopic, lakehouse: Path, spark: Any
) -> None:
    feed = kafka_feed("events", broker, new_topic(numbers(0, 1)))
    land_without_spark(feed, lakehouse)
    table = DeltaTable(lakehouse / "bronze" / "events")
    settings = {"realtime_insights.landed_by": "copy_into"}
    table.alter.set_table_properties(settings, raise_if_not_exists=False)
    (refused,) = spark_engine.run_once([feed], ["events"], lakehouse, spark, take_over=True)
    assert "landed by copy_into" in (refused.error or "")
    error = land_without_spark(feed, lakehouse, fail=True).error
    assert "landed by copy_into" in (error or "")
