"""The shape of a landed record. Everything here is pure: bytes in, Arrow columns out."""

# pyarrow's types take parameters for the type checker only, not when the module runs.
from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

HEADERS_TYPE = pa.map_(pa.string(), pa.string())
TIMESTAMP_TYPE = pa.timestamp("us", tz="UTC")
# The end of the year 9999; a timestamp beyond it is taken for none.
LAST_MILLISECOND = 253_402_300_800_000

# A row as a source produces it; when and in which batch it was landed is known at its commit.
_ROW: list[pa.Field[Any]] = [
    pa.field("source", pa.string()),
    pa.field("partition", pa.int32()),
    pa.field("position", pa.int64()),
    pa.field("key", pa.string()),
    pa.field("value", pa.string()),
    pa.field("headers", HEADERS_TYPE),
    pa.field("source_timestamp", TIMESTAMP_TYPE),
]
_COMMIT: list[pa.Field[Any]] = [
    pa.field("ingested_at", TIMESTAMP_TYPE),
    pa.field("batch_id", pa.int64()),
]
_FEED: list[pa.Field[Any]] = [pa.field("feed", pa.string())]
_REASON: list[pa.Field[Any]] = [pa.field("reason", pa.string())]

ROW_SCHEMA = pa.schema(_ROW)
REJECT_SCHEMA = pa.schema([*_ROW, *_REASON])
BRONZE_SCHEMA = pa.schema([*_ROW, *_COMMIT])
QUARANTINE_SCHEMA = pa.schema([*_ROW, *_COMMIT, *_FEED, *_REASON])

Headers = list[tuple[str, str | None]]


class Reject(NamedTuple):
    """A record that is not landed, with everything that is known of it."""

    source: str
    partition: int
    position: int
    key: str | None
    value: str | None
    headers: Headers
    timestamp_ms: int | None
    reason: str


# --- bytes and texts ------------------------------------------------------------------------------


def as_text(value: bytes | None, name: str, is_binary: bool = False) -> tuple[str | None, Headers]:
    """Return bytes as text: as they are, or in base64 with the header that says so."""
    if value is None:
        return None, []
    if not is_binary:
        try:
            return value.decode(), []
        except UnicodeDecodeError:
            pass  # so it is binary
    return base64.b64encode(value).decode(), [(f"{name}_encoding", "base64")]


def original_bytes(text: str | None, name: str, headers: Mapping[str, str | None]) -> bytes | None:
    """Return what `as_text` was given."""
    if text is None:
        return None
    is_base64 = headers.get(f"{name}_encoding") == "base64"
    return base64.b64decode(text) if is_base64 else text.encode()


def text_headers(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    """Return Kafka headers as texts under names that are unique, as a map needs them.

    The second header of a name becomes `name#2`; one that is not UTF-8 becomes base64.
    """
    result: dict[str, str | None] = {}
    for name, value in headers:
        unique, number = name, 1
        while unique in result:
            number += 1
            unique = f"{name}#{number}"
        if value is None:
            result[unique] = None
        else:
            text, encoding = as_text(value, unique)
            result[unique] = text
            result.update(encoding)
    return list(result.items())


# --- building columns ---------------------------------------------------------------------------


def timestamps(milliseconds: Sequence[int | None]) -> pa.Array[Any]:
    """Return epoch milliseconds as timestamps; what is outside the years 1970-9999 is null.

    A producer may send any 64-bit number; one such message must not fail its whole batch.
    """
    numbers = pa.array(milliseconds, type=pa.int64())
    sane = pc.and_(
        pc.greater_equal(numbers, pa.scalar(0)),
        pc.less(numbers, pa.scalar(LAST_MILLISECOND)),
    )
    kept: pa.Array[Any] = pc.if_else(sane, numbers, pa.scalar(None, pa.int64()))
    result: pa.Array[Any] = kept.cast(pa.timestamp("ms", tz="UTC")).cast(TIMESTAMP_TYPE)
    return result


def headers_array(headers: Sequence[Headers | None]) -> pa.Array[Any]:
    """Return one map per row."""
    return pa.array(headers, type=HEADERS_TYPE)


def reject_rows(rejects: Sequence[Reject]) -> pa.RecordBatch:
    """Return rejected records as columns."""
    source, partition, position, key, value, headers, milliseconds, reason = zip(
        *rejects, strict=True
    )
    return pa.RecordBatch.from_arrays(
        [
            pa.array(source, type=pa.string()),
            pa.array(partition, type=pa.int32()),
            pa.array(position, type=pa.int64()),
            pa.array(key, type=pa.string()),
            pa.array(value, type=pa.string()),
            headers_array(headers),
            timestamps(milliseconds),
            pa.array(reason, type=pa.string()),
        ],
        schema=REJECT_SCHEMA,
    )


def stamp(
    batch: pa.RecordBatch, batch_id: int, ingested_at: datetime, feed: str | None = None
) -> pa.RecordBatch:
    """Complete rows of a source to rows of bronze, or with `feed` to rows of the quarantine."""
    count = batch.num_rows
    columns = [
        *batch.columns[: len(ROW_SCHEMA)],
        pa.repeat(pa.scalar(ingested_at, TIMESTAMP_TYPE), count),
        pa.repeat(pa.scalar(batch_id, pa.int64()), count),
    ]
    if feed is None:
        return pa.RecordBatch.from_arrays(columns, schema=BRONZE_SCHEMA)
    columns += [pa.repeat(pa.scalar(feed, pa.string()), count), batch.column("reason")]
    return pa.RecordBatch.from_arrays(columns, schema=QUARANTINE_SCHEMA)
