"""Avro values as JSON has them, without losing digits: of messages, and of files."""

from collections.abc import Iterator
from decimal import MAX_PREC, Context, Decimal
from types import ModuleType
from typing import Any, BinaryIO

import fastavro
from fastavro import _read_py as fastavro_in_python

from ingestion.parquet import to_json

# A damaged length must not be read as a number that takes minutes to print.
_DECIMAL_BYTES = _DECIMAL_SCALE = 1_000
_ALL_DIGITS = Context(prec=MAX_PREC)
_DAMAGED = "the file is damaged or no Avro file; the rest of it cannot be read"


def read_rows(raw: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes, str]]:
    """Yield each record of a file, its JSON text, and why it is rejected, as for Parquet."""
    if not raw.read(1):
        return
    raw.seek(0)
    try:
        module = reader_for(fastavro.reader(raw).writer_schema)
        raw.seek(0)
        for record in module.reader(raw):
            yield record, to_json(record), ""
    except Exception as error:  # damaged bytes make a parser fail in any way
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk failed, not the content
        yield {}, b"", _DAMAGED


def reader_for(schema: Any) -> ModuleType:
    """Return the compiled reader, or the one that has a limit of depth for a recursive schema.

    A few damaged bytes would end the process otherwise.
    """
    return fastavro_in_python if _is_recursive(schema) else fastavro


def _is_recursive(schema: Any, inside: frozenset[str] = frozenset()) -> bool:
    if isinstance(schema, str):
        return schema in inside
    if isinstance(schema, list):
        return any(_is_recursive(branch, inside) for branch in schema)
    fields = [field["type"] for field in schema.get("fields", ())]
    parts = [schema["type"], schema.get("items", "null"), schema.get("values", "null"), *fields]
    return _is_recursive(parts, inside | {schema.get("name", "")})


def exact_decimal(unscaled: bytes, scale: int) -> Decimal:
    """Return a decimal with all its digits. Raise ValueError where it cannot be one."""
    if len(unscaled) > _DECIMAL_BYTES or abs(scale) > _DECIMAL_SCALE:
        raise ValueError("a decimal is too long")
    number = Decimal(int.from_bytes(unscaled, signed=True))
    return number.scaleb(-scale, _ALL_DIGITS)


def _read_decimal(data: bytes, schema: Any = None, _: Any = None) -> Decimal:
    return exact_decimal(data, schema.get("scale", 0))


# fastavro's own round to the schema's precision, which not every writer keeps to.
fastavro.read.LOGICAL_READERS["bytes-decimal"] = _read_decimal
fastavro.read.LOGICAL_READERS["fixed-decimal"] = _read_decimal
