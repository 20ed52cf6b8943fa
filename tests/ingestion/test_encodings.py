"""Messages in Avro and Protobuf land as JSON that has lost nothing; a damaged one costs itself."""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from ingestion_helpers import (
    NOW,
    assert_exactly_once,
    bronze_rows,
    kafka_feed,
    land,
    quarantine_rows,
    with_options,
)

from ingestion import quarantine
from ingestion.cli import main
from ingestion.config import Feed, load_feeds
from ingestion.errors import ConfigError
from tests.support.schema_registry import Registry, schema_registry

NewTopic = Callable[..., str]
Send = Callable[..., None]

ORDER = {
    "type": "record",
    "name": "shop.Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "note", "type": ["null", "string"]},
    ],
}
NO_HEAD = "does not begin with a magic byte and a schema id"
NO_FIT = "does not fit its schema"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with schema_registry() as running:
        yield running


@pytest.fixture
def feed(broker: str, registry: Registry) -> Callable[..., Feed]:
    """A feed whose values are Avro, unless it is said otherwise."""

    def build(*topics: str, value_format: str = "json", key: str = "", **options: Any) -> Feed:
        given = {
            "value_encoding": "avro",
            "schema_registry": {"url": registry.url, "retries.wait.ms": 1},
            **options,
        }
        keys = [key] if key else []
        return kafka_feed(broker, *topics, value_format=value_format, key=keys, **given)

    return build


def avro(schema: Any, record: object, schema_id: int) -> bytes:
    out = BytesIO(struct.pack(">bI", 0, schema_id))
    out.seek(5)
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


def order(number: int, schema_id: int, note: str | None = None) -> bytes:
    return avro(ORDER, {"id": number, "note": note}, schema_id)


def values(lakehouse: Path) -> list[Any]:
    return [json.loads(row["value"]) for row in bronze_rows(lakehouse, "events")]


def reasons(lakehouse: Path) -> list[str]:
    return [row["reason"] for row in quarantine_rows(lakehouse)]


# --- exactness ----------------------------------------------------------------------------------


def field(name: str, kind: object, /, **logical: Any) -> dict[str, Any]:
    return {"name": name, "type": {"type": kind, **logical} if logical else kind}


def test_an_avro_record_of_confluents_serializer_lands_exactly(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    connect = {"connect.name": "org.apache.kafka.connect.data.Decimal", "connect.version": 1}
    schema = {
        "type": "record",
        "name": "All",
        "fields": [
            field("long", "long"),
            field("float", "float"),
            field("nan", "double"),
            field("infinite", "double"),
            field("amount", "bytes", logicalType="decimal", precision=50, scale=4),
            field("wide", "bytes", logicalType="decimal", precision=64, scale=2, **connect),
            field("fixed", "fixed", name="F", size=3),
            field("bytes", "bytes"),
            field("day", "int", logicalType="date"),
            field("clock", "long", logicalType="time-micros"),
            field("at", "long", logicalType="timestamp-millis"),
            field("at_micros", "long", logicalType="timestamp-micros"),
            field("local", "long", logicalType="local-timestamp-micros"),
            field("at_nanos", "long", logicalType="timestamp-nanos"),
            field("uuid", "string", logicalType="uuid"),
            field("kind", "enum", name="E", symbols=["new", "old"]),
            field("map", "map", values="long"),
            field("union", ["null", "string", ORDER]),
            field("empty", ["null", "string"]),
        ],
    }
    number = Decimal("-12345678901234567890123456789012345678.9000")
    record = {
        "long": 2**63 - 1,
        "float": 0.5,
        "nan": float("nan"),
        "infinite": float("-inf"),
        "amount": number,
        "wide": Decimal("1.10"),
        "fixed": b"\x00\x01\xff",
        "bytes": b"\xff\xfe",
        "day": date(2026, 3, 1),
        "clock": time(23, 59, 59, 999999),
        "at": datetime(2026, 3, 1, 12, 0, 0, 123000, UTC),
        "at_micros": datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
        "local": datetime(2026, 3, 1, 12),
        "at_nanos": 1_772_366_400_123_456_789,
        "uuid": UUID(int=1),
        "kind": "old",
        "map": {"a": -1},
        "union": {"id": 7, "note": "x"},
        "empty": None,
    }
    topic = new_topic()
    client = SchemaRegistryClient({"url": registry.url})
    serialize = AvroSerializer(client, json.dumps(schema))
    send(topic, [serialize(record, SerializationContext(topic, MessageField.VALUE))])
    assert land(feed(topic), lakehouse).landed == 1
    (row,) = bronze_rows(lakehouse, "events")
    assert json.loads(row["value"]) == {
        "long": 2**63 - 1,
        "float": 0.5,
        "nan": None,
        "infinite": None,
        "amount": "-12345678901234567890123456789012345678.9000",
        "wide": "1.10",
        "fixed": "AAH/",
        "bytes": "//4=",
        "day": "2026-03-01",
        "clock": "23:59:59.999999",
        "at": "2026-03-01T12:00:00.123000Z",
        "at_micros": "1969-12-31T23:59:59.999999Z",
        "local": "2026-03-01T12:00:00",
        "at_nanos": 1_772_366_400_123_456_789,
        "uuid": "00000000-0000-0000-0000-000000000001",
        "kind": "old",
        "map": {"a": -1},
        "union": {"id": 7, "note": "x"},
        "empty": None,
    }
    assert row["headers"] == {"value_schema_id": "1"}


def test_a_decimal_with_more_digits_than_its_schema_says_keeps_them(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    decimals = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
    schema = {"type": "record", "name": "R", "fields": [{"name": "n", "type": decimals}]}
    number = registry.add(schema)
    raw = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "bytes"}]}
    written = avro(raw, {"n": (123456789).to_bytes(8, signed=True)}, number)
    assert land(feed(new_topic([written])), lakehouse).landed == 1
    assert values(lakehouse) == [{"n": "1234567.89"}]


# The fields of a message: name, number, type, and what else is to be said.
F = descriptor_pb2.FieldDescriptorProto
F_FILE = descriptor_pb2.FileDescriptorProto
REPEATED = {"label": F.LABEL_REPEATED}
WELL_KNOWN = ["timestamp", "duration", "wrappers", "struct"]


def proto_file(name: str, *messages: dict[str, Any], **rest: Any) -> Any:
    content = {"name": name, "package": "shop", "syntax": "proto3", "message_type": messages}
    return json_format.ParseDict({**content, **rest}, F_FILE())


def message(name: str, *fields: tuple[str, Any, dict[str, Any]], **rest: Any) -> dict[str, Any]:
    kinds = []
    for number, (field_name, kind, more) in enumerate(fields, 1):
        type_ = {"type": F.TYPE_MESSAGE, "type_name": kind} if isinstance(kind, str) else {}
        label = {"label": F.LABEL_OPTIONAL}
        kinds.append(
            {"name": field_name, "number": number, **label, **(type_ or {"type": kind}), **more}
        )
    return {"name": name, "field": kinds, **rest}


PROTO_ORDER = proto_file(
    "order.proto",
    message("Other", ("id", F.TYPE_STRING, {})),
    message(
        "Order",
        ("id", F.TYPE_INT64, {}),
        ("note", F.TYPE_STRING, {"oneof_index": 0, "proto3_optional": True}),
        oneof_decl=[{"name": "_note"}],
        nested_type=[message("Line", ("sku", F.TYPE_STRING, {}))],
    ),
)


def serialized(file: Any) -> str:
    return base64.b64encode(file.SerializeToString()).decode()


def proto(schema_id: int, indexes: list[int], payload: bytes) -> bytes:
    head = SchemaId("PROTOBUF", schema_id=schema_id, message_indexes=indexes).id_to_bytes()
    return head + payload


def written(file: Any, name: str, content: dict[str, Any], *imports: Any) -> bytes:
    """The payload of a message that is given in Protobuf's JSON."""
    pool = DescriptorPool()
    for each in (*imports, file):
        pool.Add(each)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    return json_format.ParseDict(content, kind()).SerializeToString()


def proto_order(number: int, schema_id: int) -> bytes:
    return proto(schema_id, [1], written(PROTO_ORDER, "shop.Order", {"id": number}))


def test_a_protobuf_message_lands_exactly(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    built_in = [import_module(f"google.protobuf.{name}_pb2") for name in WELL_KNOWN]
    files = [F_FILE.FromString(each.DESCRIPTOR.serialized_pb) for each in built_in]
    entry = message(
        "CountsEntry",
        ("key", F.TYPE_BOOL, {}),
        ("value", F.TYPE_INT64, {}),
        options={"map_entry": True},
    )
    everything = message(
        "All",
        ("long_number", F.TYPE_INT64, {}),
        ("unsigned", F.TYPE_UINT64, {}),
        ("nan", F.TYPE_DOUBLE, {}),
        ("infinite", F.TYPE_FLOAT, {}),
        ("raw", F.TYPE_BYTES, {}),
        ("kind", F.TYPE_ENUM, {"type_name": ".shop.Kind"}),
        ("at", ".google.protobuf.Timestamp", {}),
        ("took", ".google.protobuf.Duration", {}),
        ("wrapped", ".google.protobuf.Int64Value", {}),
        ("free", ".google.protobuf.Struct", {}),
        ("counts", ".shop.All.CountsEntry", REPEATED),
        ("lines", ".shop.All", REPEATED),
        ("zero", F.TYPE_INT32, {}),
        ("no_kind", F.TYPE_ENUM, {"type_name": ".shop.Kind"}),
        ("unset", F.TYPE_STRING, {"oneof_index": 0, "proto3_optional": True}),
        ("no_wrapped", ".google.protobuf.StringValue", {}),
        nested_type=[entry],
        oneof_decl=[{"name": "_unset"}],
    )
    kinds = {"name": "Kind", "value": [{"name": "NEW", "number": 0}, {"name": "OLD", "number": 1}]}
    file = proto_file(
        "all.proto",
        everything,
        enum_type=[kinds],
        dependency=[f"google/protobuf/{name}.proto" for name in WELL_KNOWN],
    )
    content = {
        "longNumber": str(2**63 - 1),
        "unsigned": str(2**64 - 1),
        "nan": "NaN",
        "infinite": "Infinity",
        "raw": "//4=",
        "kind": "OLD",
        "at": "2026-03-01T12:00:00.123456789Z",
        "took": "1.5s",
        "wrapped": str(2**62),
        "free": {"a": [1.5, None, {"b": "c"}]},
        "counts": {"true": 3},
        "lines": [{"longNumber": "1"}],
    }
    number = registry.add(serialized(file), "PROTOBUF")
    sent = proto(number, [0], written(file, "shop.All", content, *files))
    topic = new_topic([sent])
    assert land(feed(topic, value_encoding="protobuf"), lakehouse).landed == 1
    (found,) = values(lakehouse)
    absent = {
        "long_number": 0,
        "unsigned": 0,
        "nan": 0,
        "infinite": 0,
        "raw": "",
        "kind": "NEW",
        "at": None,
        "took": None,
        "wrapped": None,
        "free": None,
        "counts": {},
        "lines": [],
        "zero": 0,
        "no_kind": "NEW",
        "unset": None,
        "no_wrapped": None,
    }
    assert found == {
        **absent,
        "long_number": 2**63 - 1,
        "unsigned": 2**64 - 1,
        "nan": None,
        "infinite": None,
        "raw": "//4=",
        "kind": "OLD",
        "at": "2026-03-01T12:00:00.123456789Z",
        "took": "1.500s",
        "wrapped": 2**62,
        "free": {"a": [1.5, None, {"b": "c"}]},
        "counts": {"true": 3},
        "lines": [{**absent, "long_number": 1}],
    }


def test_a_protobuf_decimal_is_text_with_all_its_digits(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    path = "confluent/type/decimal.proto"
    schema = proto_file("p", message("P", ("n", ".confluent.type.Decimal", {})), dependency=[path])
    number = registry.add(serialized(schema), "PROTOBUF")
    decimal = b"\x0a\x04\x07\x5b\xcd\x15" + b"\x18\x04"  # value = 123456789, scale = 4
    too_long = b"\x0a\x01\x07" + b"\x18\xff\xff\xff\xff\x07"
    payloads = [b"\x0a" + bytes([len(n)]) + n for n in (decimal, too_long)]
    topic = new_topic([proto(number, [0], payload) for payload in payloads])
    land(feed(topic, value_encoding="protobuf"), lakehouse)
    assert values(lakehouse) == [{"n": "12345.6789"}]
    assert reasons(lakehouse) == [f"the value {NO_FIT}"]


# --- schemas ------------------------------------------------------------------------------------


def test_keys_and_values_have_encodings_of_their_own(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    in_avro, in_protobuf = registry.add(ORDER), registry.add(serialized(PROTO_ORDER), "PROTOBUF")
    topic = new_topic([(order(1, in_avro), proto_order(2, in_protobuf)), (order(3, in_avro), None)])
    both = feed(topic, key_encoding="avro", value_encoding="protobuf")
    assert land(both, lakehouse).landed == 2
    first, tombstone = bronze_rows(lakehouse, "events")
    assert json.loads(first["key"]) == {"id": 1, "note": None}
    assert json.loads(first["value"]) == {"id": 2, "note": None}
    assert first["headers"] == {"key_schema_id": "1", "value_schema_id": "2"}
    assert (json.loads(tombstone["key"])["id"], tombstone["value"]) == (3, None)
    assert tombstone["headers"] == {"key_schema_id": "1"}
    only_keys = feed(
        new_topic([(order(1, in_avro), b"as it is")]),
        value_format="text",
        key_encoding="avro",
        value_encoding="text",
    )
    assert land(only_keys, lakehouse.with_name("other")).landed == 1
    assert bronze_rows(lakehouse.with_name("other"), "events")[0]["value"] == "as it is"


def test_a_schema_may_refer_to_others(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    first = registry.add(ORDER)
    pair = {
        "type": "record",
        "name": "shop.Pair",
        "fields": [{"name": "a", "type": "Order"}, {"name": "b", "type": ["null", "Order"]}],
    }
    second = registry.add(pair, references=(("shop.Order", first),))
    union = registry.add(["shop.Pair", "shop.Order"], references=(("shop.Pair", second),))
    inner = registry.add(serialized(PROTO_ORDER), "PROTOBUF")
    at = "google/protobuf/timestamp.proto"
    outer_file = proto_file(
        "outer.proto",
        message("Outer", ("order", ".shop.Order", {}), ("at", ".google.protobuf.Timestamp", {})),
        dependency=["orders/order.proto", at],
    )
    references = (("orders/order.proto", inner),)
    outer = registry.add(serialized(outer_file), "PROTOBUF", references)
    record = {"a": {"id": 1, "note": None}, "b": {"id": 2, "note": None}}
    payload = avro([ORDER, pair], record, 0)[6:]  # without the branch of the union
    heads = [struct.pack(">bI", 0, number) for number in (second, union)]
    topic = new_topic([heads[0] + payload, heads[1] + b"\0" + payload])
    assert land(feed(topic), lakehouse).landed == 2
    assert values(lakehouse) == [record, record]
    payload = b"\x0a\x02\x08\x05" + b"\x12\x02\x08\x01"
    other = lakehouse.with_name("other")
    in_protobuf = feed(new_topic([proto(outer, [0], payload)]), value_encoding="protobuf")
    assert land(in_protobuf, other).landed == 1
    assert values(other) == [{"order": {"id": 5, "note": None}, "at": "1970-01-01T00:00:01Z"}]


def test_the_indexes_of_protobuf_say_which_message_it_is(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    number = registry.add(serialized(PROTO_ORDER), "PROTOBUF")
    text = b"\x0a\x01a"
    sent = [proto(number, [0], text), proto(number, [1, 0], text), proto(number, [1], b"\x08\x01")]
    assert land(feed(new_topic(sent), value_encoding="protobuf"), lakehouse).landed == 3
    assert values(lakehouse) == [{"id": "a"}, {"sku": "a"}, {"id": 1, "note": None}]


def test_a_schema_may_be_named_by_its_guid_in_a_header(
    broker: str, registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    guid = str(UUID(int=registry.add(ORDER)))
    topic = new_topic()
    producer = Producer({"bootstrap.servers": broker})
    header = SchemaId("AVRO", guid=guid).guid_to_bytes()
    for payload in (order(1, 1)[5:], b"broken"):
        producer.produce(topic, value=payload, headers=[("__value_schema_id", header)])
    producer.flush()
    land(feed(topic), lakehouse)
    (row,) = bronze_rows(lakehouse, "events")
    assert (json.loads(row["value"])["id"], row["headers"]["value_schema_id"]) == (1, guid)
    assert reasons(lakehouse) == [f"the value {NO_FIT}"]


def test_a_schema_is_asked_for_once(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    registry.add(ORDER)
    topic = new_topic([*(order(n, 1) for n in range(50)), *(order(n, 2) for n in range(50))])
    result = land(feed(topic, batch_rows=10), lakehouse)
    assert (result.landed, result.rejected) == (50, 50)
    assert registry.requests.count("/schemas/ids/1") == 1
    assert registry.requests.count("/schemas/ids/2") == 1


def test_debezium_in_avro_is_judged_as_debezium(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    row = {"type": "record", "name": "Value", "fields": [{"name": "id", "type": ["null", "long"]}]}
    fields = [
        {"name": "before", "type": ["null", row]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "op", "type": "string"},
    ]
    envelope = {"type": "record", "name": "Envelope", "fields": fields}
    number = registry.add(envelope)
    changes = [
        {"before": None, "after": {"id": 1}, "op": "c"},
        {"before": None, "after": {"id": None}, "op": "u"},
        {"before": None, "after": None, "op": "d"},
    ]
    topic = new_topic([avro(envelope, change, number) for change in changes] + [None])
    result = land(feed(topic, value_format="debezium", key="id"), lakehouse)
    assert (result.landed, result.rejected) == (2, 2)
    change, tombstone = bronze_rows(lakehouse, "events")
    assert (json.loads(change["value"]), tombstone["value"]) == (changes[0], None)
    assert reasons(lakehouse) == [
        "key field 'id' is null",
        "no row image: before is missing for op d",
    ]


# --- poison -------------------------------------------------------------------------------------

GOOD = {"avro": order, "protobuf": proto_order}
POISON = {
    "avro": [
        (b"", NO_HEAD),
        (b'{"id": 1}', NO_HEAD),
        (b"\0\0\0", NO_HEAD),
        (order(1, 99), "has a schema that is not in the registry"),
        (order(1, 2**32 - 1), "has a schema that is not in the registry"),
        (b"\1" + b"0123456789abcdef", "has a schema that is not in the registry"),
        (order(1, 2), "has a schema that cannot be used as avro"),
        (order(1, 3), "has a schema that cannot be used as avro"),
        (order(1, 1, "cut off")[:-1], NO_FIT),
        (order(1, 1) + b"\0", NO_FIT),
        (order(1, 1)[:-1] + b"\x08", NO_FIT),
        (order(1, 1, "not UTF-8")[:-1] + b"\xff", NO_FIT),
        (b"\0\0\0\0\x04" + b"\x02" * 500_000, NO_FIT),
    ],
    "protobuf": [
        (b"", NO_HEAD),
        (b"\0\0\0\0\x02", NO_HEAD),
        (b"\0\0\0\0\x02" + b"\xff" * 500_000, NO_HEAD),
        (proto_order(1, 99), "has a schema that is not in the registry"),
        (proto_order(1, 1), "has a schema that cannot be used as protobuf"),
        (proto(2, [7], b""), NO_FIT),
        (proto(2, [-1], b""), NO_FIT),
        (proto_order(300, 2)[:-1], NO_FIT),
        (proto(2, [1], b"\x18\x01"), NO_FIT),
    ],
}


@pytest.mark.parametrize("encoding", ["avro", "protobuf"])
def test_a_poisoned_message_costs_itself_and_is_kept_as_it_came(
    registry: Registry,
    feed: Callable[..., Feed],
    new_topic: NewTopic,
    lakehouse: Path,
    encoding: str,
) -> None:
    number = {"avro": registry.add(ORDER)}
    number["protobuf"] = registry.add(serialized(PROTO_ORDER), "PROTOBUF")
    registry.add("{")
    node = {"name": "next", "type": ["null", "Node"]}
    registry.add({"type": "record", "name": "Node", "fields": [node]})
    good, poison = GOOD[encoding], POISON[encoding]
    messages = []
    for position, (bad, _) in enumerate(poison):
        messages += [good(position, number[encoding]), bad]
    result = land(feed(new_topic(messages), value_encoding=encoding), lakehouse)
    assert (result.landed, result.rejected) == (len(poison), len(poison))
    assert [value["id"] for value in values(lakehouse)] == list(range(len(poison)))
    kept = quarantine_rows(lakehouse)
    assert [row["reason"] for row in kept] == [f"the value {reason}" for _, reason in poison]
    assert [base64.b64decode(row["value"]) for row in kept] == [bad for bad, _ in poison]
    assert {row["headers"]["value_encoding"] for row in kept} == {"base64"}
    assert_exactly_once(lakehouse, "events", 2 * len(poison))


def test_a_key_that_cannot_be_decoded_is_a_reason(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    registry.add(ORDER)
    topic = new_topic([(b"plain", order(1, 1)), (b"plain", None), (order(1, 1), order(1, 1))])
    result = land(feed(topic, key_encoding="avro"), lakehouse)
    assert (result.landed, result.rejected) == (1, 2)
    assert reasons(lakehouse) == [f"the key {NO_HEAD}"] * 2


def test_a_recursive_schema_can_be_read(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    node = {"name": "next", "type": ["null", "Node"]}
    number = registry.add({"type": "record", "name": "Node", "fields": [node]})
    topic = new_topic([struct.pack(">bI", 0, number) + b"\x02\x02\x00"])
    assert land(feed(topic), lakehouse).landed == 1
    assert values(lakehouse) == [{"next": {"next": {"next": None}}}]


# --- the registry -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [(500, {}), (401, {"error_code": 401}), (404, "a proxy's page"), (200, "not a schema")],
)
def test_without_an_answer_of_the_registry_the_feed_stops_and_nothing_is_rejected(
    registry: Registry,
    feed: Callable[..., Feed],
    new_topic: NewTopic,
    lakehouse: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: tuple[int, object],
) -> None:
    registry.add(ORDER)
    topic = new_topic([order(1, 1), b"plain"])
    answer = registry.answer

    def fail_for_schemas(path: str, *rest: Any) -> tuple[int, object]:
        return broken if path.startswith("/schemas/ids/") else answer(path, *rest)

    monkeypatch.setattr(registry, "answer", fail_for_schemas)
    result = land(feed(topic), lakehouse, fail=True)
    assert result.error is not None
    assert "schema registry does not answer as it should" in result.error
    assert (bronze_rows(lakehouse, "events"), quarantine_rows(lakehouse)) == ([], [])
    monkeypatch.undo()
    result = land(feed(topic), lakehouse)
    assert (result.landed, result.rejected) == (1, 1)


def test_a_registry_without_the_serialized_form_stops_the_feed_and_says_so(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    registry.add('syntax = "proto3"; message Order {}', "PROTOBUF")
    result = land(
        feed(new_topic([proto(1, [0], b"")]), value_encoding="protobuf"), lakehouse, fail=True
    )
    assert result.error is not None
    assert "format=serialized" in result.error


@pytest.mark.parametrize(
    ("settings", "setting", "fix"),
    [
        ({"url": "http://127.0.0.1:1"}, "kafka.schema_registry.url", "Connection refused"),
        ({"basic.auth.user.info": "user:wr0ng"}, "kafka.schema_registry.url", "status 401"),
        ({"retries": 1}, "kafka.schema_registry", "Unrecognized properties: retries"),
        ({"ssl.ca.location": "/no/such"}, "kafka.schema_registry", "No such file"),
    ],
)
def test_a_registry_that_cannot_be_used_is_a_wrong_setting(
    registry: Registry,
    feed: Callable[..., Feed],
    new_topic: NewTopic,
    lakehouse: Path,
    settings: dict[str, Any],
    setting: str,
    fix: str,
) -> None:
    registry.protected = True
    wrong = {"url": registry.url, "max.retries": 0, **settings}
    with pytest.raises(ConfigError) as error:
        land(feed(new_topic(), schema_registry=wrong), lakehouse)
    assert (error.value.setting, fix in error.value.fix) == (setting, True), error.value
    assert "wr0ng" not in str(error.value)
    assert not lakehouse.exists()


FEEDS = """
feeds:
  events:
    format: json
    kafka:
      topics: [a]
      settings: {bootstrap.servers: 'x:1'}
"""


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ("value_encoding: avro", "kafka.schema_registry"),
        ("key_encoding: protobuf", "kafka.schema_registry"),
        ("schema_registry: {url: 'http://r'}", "kafka.schema_registry"),
        ("value_encoding: thrift", "kafka.value_encoding"),
        (
            "value_encoding: avro\n      schema_registry: {url: 'ftp://u:s3cr3t@r'}",
            "kafka.schema_registry.url",
        ),
        (
            "value_encoding: avro\n      schema_registry: {timeout: 1}",
            "kafka.schema_registry.url",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    tmp_path: Path, settings: str, setting: str
) -> None:
    file = tmp_path / "feeds.yml"
    file.write_text(f"{FEEDS}      {settings}\n")
    with pytest.raises(ConfigError) as error:
        load_feeds(file, {})
    assert error.value.setting == setting
    assert "s3cr3t" not in str(error.value)


def test_the_settings_of_the_registry_come_from_variables_and_reach_it(
    broker: str, registry: Registry, new_topic: NewTopic, tmp_path: Path
) -> None:
    registry.protected = True
    registry.add(ORDER)
    file = tmp_path / "feeds.yml"
    topic = new_topic([order(1, 1)])
    file.write_text(
        FEEDS.replace("[a]", f"['{topic}']")
        .replace("x:1", broker)
        .replace("settings: {", "settings: {receive.message.max.bytes: 2147483647, ")
        + """
      value_encoding: avro
      schema_registry:
        url: ${REGISTRY}
        basic.auth.user.info: ${REGISTRY_USER}:${REGISTRY_PASSWORD}
"""
    )
    env = {"REGISTRY": registry.url, "REGISTRY_USER": "user", "REGISTRY_PASSWORD": "s3cr3t"}
    (declared,) = load_feeds(file, env)
    assert land(declared, tmp_path / "lakehouse").landed == 1


# --- replay -------------------------------------------------------------------------------------


def test_a_replay_decodes_what_can_be_decoded_now(
    broker: str, registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    registry.add(ORDER)
    topic = new_topic([(order(1, 1), order(2, 2)), (order(3, 1), order(4, 1)), (b"x", order(5, 1))])
    both = feed(topic, key="note", key_encoding="avro")
    assert land(both, lakehouse).rejected == 3
    registry.add(ORDER)
    done = quarantine.replay(replace(both, key=()), lakehouse, lambda: NOW)
    assert (done.landed, done.still_rejected) == (2, 1)
    first, second = bronze_rows(lakehouse, "events")
    assert [json.loads(row["key"])["id"] for row in (first, second)] == [1, 3]
    assert [json.loads(row["value"])["id"] for row in (first, second)] == [2, 4]
    assert first["headers"] == {"key_schema_id": "1", "value_schema_id": "2"}
    assert second["headers"] == {"key_schema_id": "1", "value_schema_id": "1"}
    assert_exactly_once(lakehouse, "events", 3)


def test_what_was_read_as_text_by_mistake_lands_by_a_replay_with_the_encoding(
    registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    registry.add(ORDER)
    topic = new_topic([(b"k", order(1, 1)), (b"k", order(-70, 1))])
    right = feed(topic)
    wrong = with_options(right, value_encoding="text", schema_registry={})
    assert land(wrong, lakehouse).rejected == 2
    assert quarantine.replay(right, lakehouse, lambda: NOW).landed == 2
    assert {row["key"] for row in bronze_rows(lakehouse, "events")} == {"k"}
    assert [value["id"] for value in values(lakehouse)] == [1, -70]


def test_a_replay_by_guid_finds_the_header_again(
    broker: str, registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, lakehouse: Path
) -> None:
    topic = new_topic()
    producer = Producer({"bootstrap.servers": broker})
    header = SchemaId("AVRO", guid="ffffffff-0000-0000-0000-000000000001").guid_to_bytes()
    producer.produce(topic, value=order(1, 1)[5:], headers=[("__value_schema_id", header)])
    producer.flush()
    assert land(feed(topic), lakehouse).rejected == 1
    registry.add(ORDER)
    registry.schemas[0]["guid"] = "ffffffff-0000-0000-0000-000000000001"
    assert quarantine.replay(feed(topic), lakehouse, lambda: NOW).landed == 1


def test_a_replay_without_the_registry_is_a_wrong_setting_and_changes_nothing(
    broker: str, registry: Registry, feed: Callable[..., Feed], new_topic: NewTopic, tmp_path: Path
) -> None:
    lakehouse = tmp_path / "lakehouse"
    topic = new_topic([order(1, 1)])
    assert land(feed(topic), lakehouse).rejected == 1
    file = tmp_path / "feeds.yml"
    file.write_text(
        FEEDS.replace("[a]", f"['{topic}']")
        + "      value_encoding: avro\n"
        + "      schema_registry: {url: 'http://127.0.0.1:1', max.retries: 0}\n"
    )
    command = [
        "quarantine",
        "replay",
        "events",
        "--feeds",
        str(file),
        "--lakehouse",
        str(lakehouse),
    ]
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, "kafka.schema_registry.url" in done.stderr) == (2, True), done.output
    assert len(quarantine_rows(lakehouse)) == 1
