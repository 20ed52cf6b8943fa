"""How files may be written: compressed, in other encodings and dialects, as Parquet and Avro."""

import bz2
import gzip
import io
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_file_formats import read, rejects, values

from ingestion import formats
from ingestion.config import FileOptions, load_feeds
from ingestion.errors import ConfigError

DAMAGED = "the compressed file is damaged or cut off; the rest of it cannot be read"
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "a.gz": gzip.compress,
    "a.bz2": bz2.compress,
    "a.zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


# --- compressed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_compressed_file_reads_like_the_plain_one(name: str) -> None:
    content = b"".join(b'{"id":%d}\n' % i for i in range(50_000))
    compress = COMPRESSIONS[name]
    assert read(compress(content), "ndjson", name=name) == read(content, "ndjson")
    parts = compress(content[:10]) + compress(content[10:])  # as written by several processes
    assert read(parts, "ndjson", name=name) == read(content, "ndjson")


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_of_a_compressed_file_that_is_cut_off_what_can_be_read_lands(name: str) -> None:
    numbers = random.Random(1)
    lines = [b'{"id":%d}' % numbers.getrandbits(60) for _ in range(100_000)]
    whole = COMPRESSIONS[name](b"\n".join(lines))
    found = read(whole[: len(whole) // 2], "ndjson", name=name)
    assert 20_000 < len(found.values) < 80_000
    assert found.values == lines[: len(found.values)]
    assert found.rejects[-1].reason == DAMAGED
    assert [r.reason for r in found.rejects[:-1]] in ([], [formats.CUT_OFF])


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("content", [b"this is no compressed file", b"\x1f\x8b"])
def test_a_file_that_is_not_compressed_as_its_name_says_is_one_reject(
    name: str, content: bytes
) -> None:
    assert rejects(read(content, "csv", name=name)) == [(1, "", DAMAGED)]


def test_a_failing_disk_is_not_taken_for_a_damaged_file() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    options = FileOptions(Path())
    for name in ("a", *COMPRESSIONS):
        with pytest.raises(OSError, match="Input/output error"):
            list(formats.read_records(Failing(), name, "ndjson", options, ()))


# --- encodings and dialects ---------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig", "latin-1"])
def test_a_file_in_another_encoding_lands_as_utf8(encoding: str) -> None:
    text = "id,name\n1,Zoë\n2,naïve\n"
    found = read(text.encode(encoding), "csv", ["id"], encoding=encoding)
    assert values(found) == ['{"id":"1","name":"Zoë"}', '{"id":"2","name":"naïve"}']


def test_a_byte_without_meaning_in_the_encoding_costs_its_row_and_no_other() -> None:
    content = "id,name\n1,Zoë\n2,?\n3,é\n".encode("cp1252").replace(b"?", b"\x81")
    found = read(content, "csv", encoding="cp1252")
    assert values(found) == ['{"id":"1","name":"Zoë"}', '{"id":"3","name":"é"}']
    assert [(r.position, r.reason) for r in found.rejects] == [
        (2, "the value is not valid UTF-8"),
    ]


def test_quote_and_escape_are_settings() -> None:
    found = read(b"id|n\n1|'a|b'\n2|c\\|d\n3|\"\n", "csv", delimiter="|", quote="'", escape="\\")
    assert [json.loads(v)["n"] for v in found.values] == ["a|b", "c|d", '"']
    found = read(b'id,n\n1,"a\n2,b"\n', "csv", quote="")
    assert [json.loads(v)["n"] for v in found.values] == ['"a', 'b"']


def test_a_file_without_a_header_has_the_columns_of_the_settings() -> None:
    found = read(b"1,2\n3\n4,5\n", "csv", ["id"], header=False, columns=("id", "n"))
    assert values(found) == ['{"id":"1","n":"2"}', '{"id":"4","n":"5"}']
    assert rejects(found) == [(2, "3", "1 column, the header has 2")]


@pytest.mark.parametrize("quote", ['"', "'", ""])
@pytest.mark.parametrize("key", [(), ("id",), ("id", "b")])
def test_blocks_read_at_once_and_row_by_row_give_the_same(
    quote: str, key: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(7)
    fields = [
        "",
        "1",
        "ab",
        "a b",
        "é",
        '"',
        "'",
        ";",
        "\\",
        "\t",
        "\r",
        "\x00",
        '""',
        '"x"',
        "'y'",
    ]
    likely = [*fields[1:5] * 8, '"x"', '"1"', "'y'", "''", '""']
    quoted = ['"x"', '"1"', '"b"', '"2"', '""']
    outside = [*quoted, '"1"x', 'x"1"', '"1;2"']  # of the quotes, or a mark within them
    pools = [likely, fields + likely, quoted, outside, ["'y'", "'1'"], ["1", "ab"]]
    contents = [
        ("id;b;c\n" if draw.random() < 0.8 else '"id";"b";"c"\r\n')
        + "".join(
            ";".join(draw.choices(pool, k=3 if draw.random() < 0.97 else 2))
            + draw.choice(["\n"] * 9 + ["\r\n", "\n\n"])
            for _ in range(draw.randrange(8))
        )
        + draw.choice(["", "1;2;3"])
        for pool in pools * 80
    ]
    settings: dict[str, Any] = {"delimiter": ";", "quote": quote}
    at_once = [read(c.encode(), "csv", key, **settings) for c in contents]
    used = sum(bool(found.values) for found in at_once)
    assert used > 50
    monkeypatch.setattr(formats._CsvBlocks, "read", lambda *_: None)
    assert [read(c.encode(), "csv", key, **settings) for c in contents] == at_once


def test_blocks_of_objects_and_lines_one_by_one_give_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = random.Random(7)
    texts = ['{"id": 1}', '{"id":"a b","x":[1, {"y": 2}]}', '{"id":1.50}', '{"id":"\\" , é"}', " "]
    bad = ["[1]", '{"id":null}', "{", '{"x":1}', "5", '{"id":1}}, {{"id":2}']
    for value_format, between in (("ndjson", "\n"), ("json_document", ",\n ")):
        contents = [
            between.join(draw.choices(texts + (bad if draw.random() < 0.5 else []), k=6))
            for _ in range(300)
        ]
        if value_format == "json_document":
            contents = [f"[ {content} ]" for content in contents]
        at_once = [read(c.encode(), value_format, ["id"]) for c in contents]
        with monkeypatch.context() as patch:
            patch.setattr(formats._Collector, "judge_all", lambda *_, **__: False)
            assert [read(c.encode(), value_format, ["id"]) for c in contents] == at_once


def test_a_line_is_too_long_wherever_the_blocks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"id,n\n1,2\n" + b"3," + b"x" * 30 + b"\n4,5\n"
    for size in range(5, 60):
        monkeypatch.setattr(formats, "_BLOCK_BYTES", size)
        found = read(content, "csv", max_record_bytes=20)
        assert values(found) == ['{"id":"1","n":"2"}', '{"id":"4","n":"5"}']
        assert b"".join(r.value for r in found.rejects) == b"3," + b"x" * 30
        assert {r.reason for r in found.rejects} == {"longer than max_record_bytes"}


# --- Parquet ------------------------------------------------------------------------------------


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_a_row_of_parquet_becomes_an_object_that_loses_no_digit() -> None:
    table = pa.table(
        {
            "id": pa.array([2**63 - 1]),
            "amount": pa.array([Decimal("0.00000001")], pa.decimal128(38, 8)),
            "at": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", "UTC")),
            "day": pa.array([datetime(2026, 3, 1, tzinfo=UTC).date()]),
            "raw": pa.array([b"\xff\x00"]),
            "nested": pa.array(
                [[{"at": 5, "x": None}]],
                pa.list_(pa.struct({"at": pa.timestamp("ms"), "x": pa.int8()})),
            ),
        }
    )
    found = read(parquet(table), "parquet", ["id"])
    assert found.keys == [b'{"id":9223372036854775807}']
    assert json.loads(found.values[0]) == {
        "id": 2**63 - 1,
        "amount": "0.00000001",
        "at": "2023-11-14 22:13:20.123456789Z",
        "day": "2026-03-01",
        "raw": "/wA=",
        "nested": [{"at": "1970-01-01 00:00:00.005", "x": None}],
    }


def test_a_row_of_parquet_without_its_key_is_rejected_alone() -> None:
    found = read(parquet(pa.table({"id": [1, None, 3]})), "parquet", ["id"])
    assert values(found) == ['{"id":1}', '{"id":3}']
    assert rejects(found) == [(2, '{"id":null}', "key field 'id' is null")]


def test_a_row_of_parquet_that_is_no_text_is_rejected_alone() -> None:
    texts = pa.array([b"a", b"\xff", b"c"]).cast(pa.string(), safe=False)
    found = read(parquet(pa.table({"id": texts})), "parquet", ["id"])
    assert values(found) == ['{"id":"a"}', '{"id":"c"}']
    assert rejects(found) == [(2, "", "a value cannot be written as JSON")]


def test_a_damaged_parquet_file_is_one_reject_after_what_could_be_read() -> None:
    content = parquet(pa.table({"id": list(range(1_000))}))
    cut = read(content[:-10], "parquet")
    assert (cut.values, len(cut.rejects)) == ([], 1)
    assert "damaged" in cut.rejects[0].reason
    assert read(b"", "parquet") == ([], [], [], [])


def test_a_parquet_file_with_many_rows_comes_in_chunks() -> None:
    found = read(parquet(pa.table({"id": range(25_000)})), "parquet", ["id"])
    assert len(found.values) == 25_000
    assert values(found)[-1] == '{"id":24999}'


@pytest.mark.parametrize(
    ("key", "landed"), [(Decimal("1.50"), '"1.50"'), (b"\xff", '"/w=="'), ("a", '"a"')]
)
def test_a_key_of_parquet_may_be_of_any_type(key: object, landed: str) -> None:
    assert read(parquet(pa.table({"id": [key]})), "parquet", ["id"]).keys == [
        f'{{"id":{landed}}}'.encode()
    ]


# --- Avro ---------------------------------------------------------------------------------------

AVRO_SCHEMA = {
    "type": "record",
    "name": "payment",
    "fields": [
        {"name": "id", "type": "long"},
        {
            "name": "amount",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 8},
        },
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "raw", "type": ["null", "bytes"]},
    ],
}


def avro(*records: dict[str, object], codec: str = "deflate") -> bytes:
    sink = io.BytesIO()
    fastavro.writer(sink, AVRO_SCHEMA, records, codec=codec, sync_interval=1)
    return sink.getvalue()


def payment(number: int) -> dict[str, object]:
    at = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    return {"id": number, "amount": Decimal("0.00000001"), "at": at, "raw": b"\xff"}


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_a_record_of_avro_becomes_an_object_that_loses_no_digit(codec: str) -> None:
    found = read(avro(payment(2**53 + 1), codec=codec), "avro", ["id"])
    assert found.keys == [b'{"id":9007199254740993}']
    assert json.loads(found.values[0]) == {
        "id": 2**53 + 1,
        "amount": "0.00000001",
        "at": "2026-03-01T12:00:00.123456Z",
        "raw": "/w==",
    }


def test_of_a_damaged_avro_file_what_stands_before_lands() -> None:
    content = avro(*[payment(n) for n in range(10)])
    found = read(content[:-20], "avro", ["id"])
    assert (len(found.values), len(found.rejects)) == (9, 1)
    assert "damaged" in found.rejects[0].reason
    assert [r.reason for r in read(b"no avro", "avro").rejects] == [found.rejects[0].reason]
    assert read(b"", "avro") == ([], [], [], [])


# --- the feeds file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("quote: ab", "files.quote: must be one character"),
        ("quote: ','", "must be another character"),
        ("encoding: utf-99", "files.encoding: 'utf-99' is no text encoding"),
        ("encoding: hex", "files.encoding: 'hex' is no text encoding"),
        ("header: 1", "files.header: must be true or false"),
        ("header: false", "files.columns: must name each column once"),
        ("columns: [a, a]", "files.columns: must name each column once"),
        ("on_change: forget", "files.on_change: 'forget' is unknown; use one of report, land_a"),
        ("settle_seconds: -1", "files.settle_seconds: must be a number of seconds"),
        ("marker: a/b", "files.marker: must be a name"),
    ],
)
def test_a_wrong_setting_of_files_is_named(tmp_path: Path, settings: str, said: str) -> None:
    path = tmp_path / "feeds.yml"
    path.write_text(f"feeds: {{a: {{format: csv, files: {{path: x, {settings}}}}}}}")
    with pytest.raises(ConfigError) as raised:
        load_feeds(path, {})
    assert said in str(raised.value)


def test_settings_of_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "feeds.yml"
    path.write_text(
        "feeds: {a: {format: csv, files: {path: /x, quote: none, escape: '\\', header: false,"
        " columns: [a], encoding: cp1252, on_change: land_again, settle_seconds: 1.5,"
        " marker: '*.ok'}}}"
    )
    (feed,) = load_feeds(path, {})
    assert feed.source == FileOptions(
        Path("/x"),
        quote="",
        escape="\\",
        header=False,
        columns=("a",),
        encoding="cp1252",
        on_change="land_again",
        settle_seconds=1.5,
        marker="*.ok",
    )
