"""Files read from, and tables written to, an object store (S3, by moto's server)."""

import gzip
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import boto3
import obstore
import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable, QueryBuilder
from ingestion_helpers import NOW, bronze_rows, kafka_feed
from obstore.store import from_url

from ingestion import doctor, quarantine, replay, status
from ingestion.bronze import Bronze, TopicPartition
from ingestion.config import Feed, FileOptions
from ingestion.errors import ConfigError, ConflictError
from ingestion.locations import Root
from ingestion.runner import FeedResult, run_once
from tests.support.object_store import s3_environment

Put = Callable[[str, bytes], str]


@pytest.fixture(scope="module")
def address() -> Iterator[dict[str, str]]:
    with s3_environment() as environment:
        yield environment


@pytest.fixture
def bucket(address: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket of its own; state of runs over it goes to a folder of the test."""
    for name, value in {**address, "INGEST_STATE": str(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    name = uuid.uuid4().hex
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def put(bucket: str) -> Put:
    """Write an object; returns its URL."""

    def write(path: str, content: bytes) -> str:
        obstore.put(from_url(bucket), path, content)
        return f"{bucket}/{path}"

    return write


def feed_over(url: str, value_format: str = "ndjson", **options: object) -> Feed:
    return Feed("visits", value_format, FileOptions(url, **options), ("id",), file="feeds.yml")  # type: ignore[arg-type]  # settings by name


def land(feed: Feed, lakehouse: Root) -> FeedResult:
    (result,) = run_once([feed], [feed.name], lakehouse, lambda: NOW)
    assert result.error is None, result.error
    return result


def rows(lakehouse: str, name: str) -> list[dict[str, object]]:
    reader = (
        QueryBuilder()
        .register("t", DeltaTable(f"{lakehouse}/{name}"))
        .execute("select * from t order by source, partition, position")
    )
    found: list[dict[str, object]] = pa.table(reader.read_all()).to_pylist()
    return found


def test_objects_are_landed_once_in_tables_in_the_store(bucket: str, put: Put) -> None:
    first = put("landing/2026/a.ndjson", b'{"id":1}\nbroken\n')
    put("landing/b.ndjson.gz", gzip.compress(b'{"id":2}\n'))
    for ignored in ("landing/.hidden/c.ndjson", "landing/d.ndjson.tmp", "elsewhere/e.ndjson"):
        put(ignored, b'{"id":9}\n')
    feed, lakehouse = feed_over(f"{bucket}/landing", glob="**/*.ndjson*"), f"{bucket}/lakehouse"
    result = land(feed, lakehouse)
    assert (result.landed, result.rejected) == (2, 1)
    assert land(feed, lakehouse).batches == 0
    put("landing/f.ndjson", b'{"id":3}\n')
    assert land(feed, lakehouse).landed == 1
    landed = rows(lakehouse, "bronze/visits")
    assert [row["value"] for row in landed] == ['{"id":1}', '{"id":2}', '{"id":3}']
    assert landed[0]["source"] == first
    (reject,) = rows(lakehouse, "quarantine")
    assert (reject["source"], reject["position"], reject["value"]) == (first, 2, "broken")


@pytest.mark.parametrize("kind", ["csv", "json_document", "parquet", "zstd"])
def test_every_reader_works_on_objects(bucket: str, put: Put, kind: str) -> None:
    name, content = {
        "csv": ("a.csv", b"id,name\n1,x\n"),
        "json_document": ("a.json", b'[{"id": "1", "name": "x"}]'),
        "parquet": ("a.parquet", parquet()),
        "zstd": ("a.ndjson.zst", pa.compress(b'{"id":"1","name":"x"}\n', "zstd", asbytes=True)),
    }[kind]
    put(f"landing/{name}", content)
    feed = feed_over(f"{bucket}/landing", "ndjson" if kind == "zstd" else kind)
    assert land(feed, f"{bucket}/lakehouse").landed == 1
    assert rows(f"{bucket}/lakehouse", "bronze/visits")[0]["value"] == '{"id":"1","name":"x"}'


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table({"id": ["1"], "name": ["x"]}), sink)
    return bytes(sink.getvalue())


def test_a_replaced_object_of_the_same_size_is_a_change(
    bucket: str, put: Put, tmp_path: Path
) -> None:
    url = put("landing/a.ndjson", b'{"id":1}\n')
    feed = feed_over(f"{bucket}/landing", on_change="land_again")
    land(feed, tmp_path / "lakehouse")
    assert land(feed, tmp_path / "lakehouse").batches == 0
    put("landing/a.ndjson", b'{"id":2}\n')
    land(feed, tmp_path / "lakehouse")
    found = bronze_rows(tmp_path / "lakehouse")
    assert [(r["source"], r["partition"], r["value"]) for r in found] == [
        (url, 0, '{"id":1}'),
        (url, 1, '{"id":2}'),
    ]


def test_an_object_waits_for_its_marker(bucket: str, put: Put, tmp_path: Path) -> None:
    put("landing/a.ndjson", b'{"id":1}\n')
    feed = feed_over(f"{bucket}/landing", marker="*.done", glob="*.ndjson")
    assert land(feed, tmp_path / "lakehouse").batches == 0
    put("landing/a.ndjson.done", b"")
    assert land(feed, tmp_path / "lakehouse").landed == 1


def test_of_two_writers_of_one_table_the_second_is_refused(bucket: str) -> None:
    one, other = Bronze(bucket, "events"), Bronze(bucket, "events")
    one.append([], 1, {TopicPartition("t", 0): 5}, NOW)
    with pytest.raises(ConflictError):
        other.append([], 1, {TopicPartition("t", 0): 5}, NOW)
    other.refresh()
    assert (other.batch_id, other.next_offset(TopicPartition("t", 0))) == (1, 5)


def test_kafka_lands_in_the_store(broker: str, new_topic: Callable[..., str], bucket: str) -> None:
    feed = kafka_feed(broker, new_topic([b'{"id":1}', b"broken", b'{"id":2}']))
    assert land(feed, bucket).landed == 2
    assert land(feed, bucket).batches == 0
    assert [row["position"] for row in rows(bucket, "bronze/events")] == [0, 2]


def test_a_lost_ledger_is_rebuilt_from_the_store(bucket: str, put: Put, tmp_path: Path) -> None:
    put("landing/a.ndjson", b'{"id":1}\nbroken\n')
    feed, lakehouse = feed_over(f"{bucket}/landing"), f"{bucket}/lakehouse"
    land(feed, lakehouse)
    (ledger,) = tmp_path.glob("state/*/ledger.sqlite")
    ledger.unlink()
    assert land(feed, lakehouse).batches == 0


def test_a_bucket_that_is_not_there_is_a_wrong_setting(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run_once([feed_over("s3://absent/landing")], ["visits"], tmp_path, lambda: NOW)
    assert (caught.value.feed, caught.value.setting) == ("visits", "files.path")
    assert "s3://absent/landing cannot be listed" in caught.value.fix


def test_status_doctor_and_quarantine_know_the_store(bucket: str, put: Put, tmp_path: Path) -> None:
    put("landing/a.ndjson", b'{"id":1}\nbroken\n')
    feeds = tmp_path / "feeds.yml"
    feeds.write_text(
        f"feeds:\n  visits:\n    files: {{path: {bucket}/landing}}\n    format: ndjson\n"
    )
    lakehouse = f"{bucket}/lakehouse"
    land(replace(feed_over(f"{bucket}/landing"), key=()), lakehouse)
    put("landing/b.ndjson", b'{"id":2}\n')
    (row,) = status.feed_statuses(feeds, lakehouse, {})
    assert (row.landed_rows, row.rejected_rows, row.lag) == (1, 1, {"files": 1, "bytes": 9})
    found = list(doctor.examine(feeds, lakehouse, {}, NOW + timedelta(days=3650), lambda _: 2**40))
    assert all(finding.ok for finding in found), found
    listed = CliRunner().invoke(quarantine.command, ["list", "--lakehouse", lakehouse])
    assert "not valid JSON" in listed.output
    refused = list(doctor.examine(feeds, "s3://absent/lakehouse", {}, NOW, lambda _: 2**40))
    assert [finding.check for finding in refused if not finding.ok] == ["lakehouse"]


def test_deleted_rows_of_objects_come_back_in_tables_in_the_store(bucket: str, put: Put) -> None:
    put("landing/a.ndjson", b'{"id":1}\nbroken\n')
    gone = put("landing/b.ndjson", b'{"id":2}\n')
    feed = feed_over(f"{bucket}/landing", glob="*.ndjson")
    lakehouse = f"{bucket}/lakehouse"
    land(feed, lakehouse)
    DeltaTable(f"{lakehouse}/bronze/visits").delete("true")
    obstore.delete(from_url(bucket), gone.removeprefix(f"{bucket}/"))
    done = replay.replay(feed, replay.Interval(), lakehouse, lambda: NOW)
    assert (done.landed, done.already_there, done.missing) == (1, 1, 1)
    assert [row["value"] for row in rows(lakehouse, "bronze/visits")] == ['{"id":1}']
    assert replay.replay(feed, replay.Interval(), lakehouse, lambda: NOW).landed == 0
