"""Messages in Confluent's wire format, Avro or Protobuf, to JSON text.

A message is a magic byte, the id of the writer's schema in a schema registry (for Protobuf also
which of its messages), and the payload. With a GUID for an id all but the payload may stand in a
header instead.
"""

import base64
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib import import_module
from io import BytesIO
from typing import Any, NamedTuple, TypeVar

import orjson
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import parse_schema_with_repo
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import SerializationError
from google.protobuf import (  # type: ignore[import-untyped]  # it has no stubs, as below
    json_format,
    message_factory,
)
from google.protobuf.descriptor_pb2 import FileDescriptorProto  # type: ignore[import-untyped]
from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]
from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]

from ingestion.avro import exact_decimal, reader_for
from ingestion.config import Feed, KafkaOptions
from ingestion.errors import DecodeError, FeedError
from ingestion.parquet import to_json

# What stands before the payload is short; damaged, it could be read as a number of any length.
_HEAD_BYTES = 100
# How long a schema that is not in the registry, or cannot be used, is not asked for again.
_FORGET_SECONDS = 60.0
# A registry's ids are signed; to ask for others is an error in itself.
_LAST_ID = 2**31 - 1

T = TypeVar("T")
Headers = Iterable[tuple[str, bytes | None]]
# The payload, and for Protobuf the path to its message in the file, by position: the record.
Reader = Callable[[bytes, list[int] | None], object]


class Decoded(NamedTuple):
    """A message as JSON texts; `headers` say by which schemas it was written."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class _UnknownSchemaError(Exception):
    """The registry answers that it does not have what was asked for."""


class Decoder:
    """Decodes the messages of one feed."""

    def __init__(self, feed: Feed, options: KafkaOptions) -> None:
        """Take the settings; nothing is connected before `check`."""
        self._feed, self._options = feed, options
        given = {"key": options.key_encoding, "value": options.value_encoding}
        self.encodings = {part: name for part, name in given.items() if name != "text"}
        self._registry: Any = None
        self._readers: dict[tuple[str, object], Reader] = {}
        self._failures: dict[tuple[str, object], str] = {}
        self._forget_at = 0.0

    def check(self) -> None:
        """Ask the registry anything. Raise ConfigError where that fails."""
        # The client's own limit is none.
        limits = {"timeout": self._options.connect_timeout_seconds}
        try:
            self._registry = SchemaRegistryClient({**limits, **self._options.schema_registry})
        except (ValueError, TypeError, OSError) as error:
            raise self._feed.error("kafka.schema_registry", str(error)) from error
        try:
            self._ask(self._registry.get_schema_types)
        except (FeedError, _UnknownSchemaError) as error:
            said = str(error) or "what answers is no schema registry"
            raise self._feed.error("kafka.schema_registry.url", said) from error

    def __call__(self, key: bytes | None, value: bytes | None, headers: Headers) -> Decoded:
        """Decode a message. Raise DecodeError where it cannot be, FeedError without a registry."""
        parts, written_by = {"key": key, "value": value}, []
        for part, encoding in self.encodings.items():
            if (content := parts[part]) is not None:
                head = next((h for name, h in headers if name == f"__{part}_schema_id"), None)
                try:
                    parts[part], schema = self._decode(encoding, (head or b"") + content)
                except DecodeError as error:
                    raise DecodeError(f"the {part} {error}") from error
                written_by.append((f"{part}_schema_id", str(schema).encode()))
        return Decoded(parts["key"], parts["value"], written_by)

    def _decode(self, encoding: str, message: bytes) -> tuple[bytes, object]:
        at, head = SchemaId(encoding.upper()), BytesIO(message[:_HEAD_BYTES])
        try:
            at.from_bytes(head)
        except (SerializationError, EOFError, ValueError, struct.error) as error:
            raise DecodeError("does not begin with a magic byte and a schema id") from error
        schema = at.guid or at.id
        read = self._readers.get((encoding, schema)) or self._find_reader(encoding, schema)
        try:
            record = read(message[head.tell() :], at.message_indexes)
            return to_json(record), schema
        except Exception as error:  # damaged bytes make a parser fail in any way
            raise DecodeError("does not fit its schema") from error

    def _find_reader(self, encoding: str, schema_id: object) -> Reader:
        if time.monotonic() > self._forget_at:
            self._failures.clear()
            self._forget_at = time.monotonic() + _FORGET_SECONDS
        place = encoding, schema_id
        if place not in self._failures:
            try:
                self._readers[place] = self._make_reader(encoding, schema_id)
                return self._readers[place]
            except _UnknownSchemaError:
                self._failures[place] = "has a schema that is not in the registry"
            except FeedError:
                raise
            except Exception:  # a parser's, which has no common class of errors
                self._failures[place] = f"has a schema that cannot be used as {encoding}"
        raise DecodeError(self._failures[place])

    def _make_reader(self, encoding: str, schema_id: object) -> Reader:
        registry, form = self._registry, "serialized" if encoding == "protobuf" else None
        if not isinstance(schema_id, int):
            get = partial(registry.get_schema_by_guid, str(schema_id), fmt=form)
            # Many a registry knows no GUIDs: that must not stop the feed at a damaged message.
            schema = self._ask(get, any_404=True)
        elif schema_id > _LAST_ID:
            raise _UnknownSchemaError
        else:
            schema = self._ask(partial(registry.get_schema, schema_id, fmt=form))
        if (schema.schema_type or "AVRO") != encoding.upper():
            raise TypeError(schema.schema_type)
        if encoding == "avro":
            return _avro_reader(schema, dict(self._references(schema, None)))
        return _ProtobufReader(schema, list(self._references(schema, form))).read

    def _references(self, schema: Schema, form: str | None) -> Iterator[tuple[str, Schema]]:
        """Yield the schemas that one refers to, each after those that it refers to itself."""
        for reference in schema.references or ():
            at = reference.subject, reference.version
            found = self._ask(partial(self._registry.get_version, *at, deleted=True, fmt=form))
            yield from self._references(found.schema, form)
            yield str(reference.name), found.schema

    def _ask(self, get: Callable[[], T], any_404: bool = False) -> T:
        try:
            return get()
        except SchemaRegistryError as error:
            # Without a code the 404 is not the registry's, but of something on the way to it.
            if error.http_status_code == 404 and (any_404 or (error.error_code or 0) > 0):
                raise _UnknownSchemaError from error
            said = f"HTTP status {error.http_status_code}"
        except Exception as error:  # those of the HTTP client; their text may hold the URL
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__cause__ or cause.__context__
            said = f"{type(error).__name__}{f': {cause}' if cause else ''}"
        raise FeedError(f"the schema registry does not answer as it should ({said})")


def _avro_reader(schema: Schema, references: dict[str, Schema]) -> Reader:
    named = {name: orjson.loads(each.schema_str or "") for name, each in references.items()}
    parsed = parse_schema_with_repo(schema.schema_str or "", named)
    module = reader_for(parsed)

    def read(payload: bytes, _: object) -> object:
        stream = BytesIO(payload)
        record = module.schemaless_reader(stream, parsed, None)
        if stream.read(1):
            raise ValueError("bytes are left over")
        return record

    return read


# --- Protobuf -----------------------------------------------------------------------------------


def _built_in(path: str) -> FileDescriptorProto:
    """Return a file that schemas import without a reference to it."""
    if not path.startswith(("google/protobuf/", "google/type/", "confluent/")):
        raise ValueError("an import without a reference")
    module = path.removesuffix(".proto").replace("/", ".") + "_pb2"
    where = "confluent_kafka.schema_registry." if path.startswith("confluent/") else ""
    return FileDescriptorProto.FromString(import_module(where + module).DESCRIPTOR.serialized_pb)


_WRAPPED = ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
# Messages that stand for one value.
_SPECIAL: dict[str, Callable[[Any], object]] = {
    **{f"google.protobuf.{name}Value": lambda m: m.value for name in _WRAPPED},
    "google.protobuf.Timestamp": lambda m: m.ToJsonString(),
    "google.protobuf.Duration": lambda m: m.ToJsonString(),
    "google.protobuf.Struct": json_format.MessageToDict,
    "google.protobuf.ListValue": json_format.MessageToDict,
    "google.protobuf.Value": json_format.MessageToDict,
    "google.type.Date": lambda m: f"{m.year:04}-{m.month:02}-{m.day:02}",
    "google.type.TimeOfDay": lambda m: f"{m.hours:02}:{m.minutes:02}:{m.seconds:02}.{m.nanos:09}",
    "confluent.type.Decimal": lambda m: exact_decimal(m.value, m.scale),
}


class _ProtobufReader:
    """Reads the messages of one schema."""

    def __init__(self, schema: Schema, references: list[tuple[str, Schema]]) -> None:
        self._pool, self._added = DescriptorPool(), set[str]()
        for path, each in references:
            self._add(path, _file(each))
        self._file = _file(schema)
        self._add("", self._file)
        self._class_at = cache(self._find_class)
        self._absent: dict[str, dict[str, object]] = {}

    def _add(self, path: str, file: FileDescriptorProto) -> None:
        if path not in self._added:
            self._added.add(path)
            file.name = path or "the schema"
            for needed in file.dependency:
                if needed not in self._added:
                    self._add(needed, _built_in(needed))
            self._pool.Add(file)

    def _find_class(self, indexes: tuple[int, ...]) -> Any:
        if min(indexes) < 0:
            raise IndexError
        message, *names = self._file.message_type[indexes[0]], self._file.package
        for index in indexes[1:]:
            names.append(message.name)
            message = message.nested_type[index]
        name = ".".join(filter(None, [*names, message.name]))
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))

    def read(self, payload: bytes, indexes: list[int] | None) -> object:
        return self._plain(self._class_at(tuple(indexes or (0,))).FromString(payload))

    def _plain(self, message: Any) -> object:
        descriptor = message.DESCRIPTOR
        if (special := _SPECIAL.get(descriptor.full_name)) is not None:
            return special(message)
        if len(UnknownFieldSet(message)):
            raise ValueError("fields that the schema lacks")
        if descriptor.full_name not in self._absent:
            self._absent[descriptor.full_name] = {f.name: _absent(f) for f in descriptor.fields}
        record = self._absent[descriptor.full_name].copy()
        for field, value in message.ListFields():
            record[field.full_name if field.is_extension else field.name] = self._field(
                field, value
            )
        return record

    def _field(self, field: Any, value: Any) -> object:
        if not field.is_repeated:
            return self._value(field, value)
        if not _is_map(field):
            return [self._value(field, each) for each in value]
        item = field.message_type.fields_by_name["value"]
        return {
            str(key).lower() if isinstance(key, bool) else str(key): self._value(item, value[key])
            for key in value
        }

    def _value(self, field: Any, value: Any) -> object:
        if field.message_type is not None:
            return self._plain(value)
        return _enum_name(field, value) if field.enum_type is not None else value


def _file(schema: Schema) -> FileDescriptorProto:
    try:
        content = base64.b64decode(schema.schema_str or "", validate=True)
        return FileDescriptorProto.FromString(content)
    except Exception as error:
        raise FeedError(
            "the schema registry gives no Protobuf schema in serialized form (format=serialized);"
            " use one that does, such as Confluent's"
        ) from error


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _enum_name(field: Any, number: int) -> str | int:
    known = field.enum_type.values_by_number.get(number)
    return known.name if known is not None else number


def _absent(field: Any) -> object:
    """Return what a field is that was not written: Protobuf leaves out zeros."""
    if field.is_repeated:
        return {} if _is_map(field) else []
    if field.has_presence:
        return None
    return _enum_name(field, 0) if field.enum_type is not None else field.default_value
