"""Both engines land the same: every column of bronze and quarantine but the time of landing."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Producer
from deltalake import DeltaTable

from ingestion import spark as spark_engine
from ingestion.config import Feed, FileOptions, KafkaOptions
from ingestion.runner import run_once
from tests.ingestion.ingestion_helpers import NOW, rows

NewTopic = Callable[..., str]


def both(feeds: list[Feed], tmp_path: Path, spark: Any) -> tuple[Path, Path]:
    """Land feeds by both engines; return the two lakehouses."""
    ours, sparks = tmp_path / "ours", tmp_path / "sparks"
    names = [feed.name for feed in feeds]
    expected = run_once(feeds, names, ours, lambda: NOW)
    found = spark_engine.run_once(feeds, names, sparks, spark)
    assert [r.error for r in (*expected, *found)] == [None] * 2 * len(feeds)
    for one, other in zip(expected, found, strict=True):
        assert (one.landed, one.rejected, one.reasons) == (
            other.landed,
            other.rejected,
            other.reasons,
        )
    return ours, sparks


def content(table: Path) -> list[dict[str, Any]]:
    """All rows in the order of their address, without what each run has of its own."""
    return [
        {name: value for name, value in row.items() if name not in ("ingested_at", "batch_id")}
        for row in rows(table)
    ]


def shape(table: Path) -> tuple[str, dict[str, str], int, int]:
    """The schema of a table, its properties that matter to readers, and what they must know."""
    handle = DeltaTable(table)
    settings = handle.metadata().configuration
    delta = {name: value for name, value in settings.items() if name.startswith("delta.")}
    protocol = handle.protocol()
    return (
        handle.schema().to_json(),
        delta,
        protocol.min_reader_version,
        protocol.min_writer_version,
    )


def assert_same(ours: Path, sparks: Path, *feeds: str) -> None:
    for table in [*(f"bronze/{feed}" for feed in feeds), "quarantine"]:
        assert content(sparks / table) == content(ours / table), table
        assert shape(sparks / table) == shape(ours / table), table


def test_messages_of_every_kind_land_equally(
    broker: str, new_topic: NewTopic, tmp_path: Path, spark: Any
) -> None:
    topic, other = new_topic([], [], []), new_topic([(b"k", b'{"id":7}')])
    producer = Producer({"bootstrap.servers": broker})

    def send(partition: int, value: bytes | None, **given: Any) -> None:
        producer.produce(topic, value=value, partition=partition, **given)

    for n in range(300):
        send(n % 2, b'{"id":%d,"text":"gr\xc3\xbc\xc3\x9fe"}' % n, key=b"key %d" % n)
    send(0, None, key=b"a tombstone")
    send(0, b"not json", key=b"k", headers=[("trace", b"1"), ("trace", b"2")])
    send(0, b"\xff\xfe", key=b"k")
    send(1, b'{"other":1}')
    send(1, b'{"id":null}', headers=[("raw", b"\xff"), ("none", None), ("empty", b"")])
    send(1, b'{"id":1}', key=b"\xff\x00", headers=[("a", b"b")])
    send(1, b'{"id":2}', headers=[("raw", b"\xff"), ("none", None), ("empty", b"")], timestamp=5)
    send(1, b"")
    send(1, b'{"id":1.00000000000000000001}', key=b"")
    assert producer.flush(10) == 0
    source = KafkaOptions((topic, other), {"bootstrap.servers": broker})
    feed = Feed("events", "json", source, ("id",), file="feeds.yml")
    ours, sparks = both([feed], tmp_path, spark)
    assert len(content(ours / "bronze/events")) == 304
    assert len(content(ours / "quarantine")) == 6
    assert_same(ours, sparks, "events")


def test_files_of_every_format_land_equally(tmp_path: Path, spark: Any) -> None:
    landing = tmp_path / "landing"
    written: dict[str, list[tuple[str, bytes]]] = {
        "ndjson": [
            ("a.ndjson", b'{"id":1}\n{"id":2}\nbroken\n\n{"other":1}\n{"id":"\xff"}\n'),
            ("deep/er/b c%20#.ndjson.gz", gzip.compress(b'{"id":"three"}\n{"id":4')),
            ("empty.ndjson", b""),
            (".hidden.ndjson", b'{"id":5}\n'),
            ("unfinished.ndjson.tmp", b'{"id":6}\n'),
            ("other.txt", b'{"id":7}\n'),
        ],
        "csv": [("a.csv", b'id;name\n1;"a\nb"\n2;x;y\n;z\n3;"unclosed\n4;d\n')],
        "tsv": [("a.tsv", b"id\tname\n1\ta\n2\n")],
        "json_document": [("a.json", b'[{"id": 1}, 5, {"id": 2, "x": [1, 2]}, {"y": 1}]')],
    }
    for value_format, files in written.items():
        for name, text in files:
            path = landing / value_format / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
    table = pa.table({"id": [1, None, 3], "amount": [Decimal("1.10"), None, Decimal("-0.01")]})
    (landing / "parquet").mkdir()
    pq.write_table(table, landing / "parquet" / "a.parquet")
    (landing / "avro").mkdir()
    fields = [{"name": "id", "type": ["null", "int"]}, {"name": "at", "type": "bytes"}]
    schema = fastavro.parse_schema({"type": "record", "name": "r", "fields": fields})
    with (landing / "avro" / "a.avro").open("wb") as out:
        fastavro.writer(out, schema, [{"id": 1, "at": b"\x00\xff"}, {"id": None, "at": b""}])
    feeds = [
        Feed(name, name, FileOptions(landing / name, glob="**/*"), ("id",), file="feeds.yml")
        for name in (*written, "parquet", "avro")
    ]
    ndjson = FileOptions(landing / "ndjson", glob="**/*.ndjson*")
    csv = FileOptions(landing / "csv", glob="*.csv", delimiter=";")
    feeds[:2] = [replace(feeds[0], source=ndjson), replace(feeds[1], source=csv)]
    ours, sparks = both(feeds, tmp_path, spark)
    assert len(content(ours / "bronze/ndjson")) == 3
    assert {json.loads(row["value"])["id"] for row in content(ours / "bronze/csv")} == {"1", "4"}
    assert len(content(ours / "quarantine")) == 13
    assert_same(ours, sparks, *(feed.name for feed in feeds))
