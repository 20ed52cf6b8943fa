"""Rows of a Parquet file as JSON objects, without losing digits."""

import base64
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

_BATCH_ROWS = 1_000
_DAMAGED = "the file is damaged or no Parquet file; the rest of it cannot be read"


def read_rows(raw: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes, str]]:
    """Yield each row, its JSON text, and why it is rejected. A file of no bytes has no rows."""
    if not raw.read(1):
        return
    raw.seek(0)
    try:
        file = pq.ParquetFile(raw)
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            yield {}, b"", "the file cannot be used: a column name stands twice"
            return
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            yield from _rows(batch)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk failed, not the content
        yield {}, b"", _DAMAGED


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[dict[str, Any], bytes, str]]:
    columns = [column.cast(_exact(column.type)) for column in batch.columns]
    exact = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    try:
        rows = exact.to_pylist()
        texts = [to_json(row) for row in rows]
    except (ValueError, TypeError):  # also a text that is not UTF-8
        if batch.num_rows == 1:
            yield {}, b"", "a value cannot be written as JSON"
            return
        for i in range(batch.num_rows):
            yield from _rows(batch.slice(i, 1))
        return
    yield from ((row, text, "") for row, text in zip(rows, texts, strict=True))


def _exact(kind: pa.DataType) -> pa.DataType:
    """Return the type with every time in it as a text: Python has no nanoseconds."""
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return pa.string()
    if isinstance(kind, pa.StructType):
        return pa.struct([field.with_type(_exact(field.type)) for field in kind])
    if isinstance(kind, pa.MapType):
        return pa.map_(_exact(kind.key_type), _exact(kind.item_type))
    if isinstance(kind, pa.ListType):
        return pa.list_(_exact(kind.value_type))
    return kind


def to_json(record: object) -> bytes:
    """Return the JSON text of what was read: decimals as texts, bytes in base64, times in UTC."""
    return orjson.dumps(record, default=_plain, option=orjson.OPT_UTC_Z)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError
