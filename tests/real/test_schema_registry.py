"""Avro and Protobuf from Apache Kafka, with schemas from a registry that others have written."""

import base64
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from ingestion import quarantine
from ingestion.config import Feed, KafkaOptions
from tests.ingestion.ingestion_helpers import NOW, bronze_rows, land, quarantine_rows
from tests.support.apicurio import apicurio
from tests.support.components import running

NewTopic = Callable[..., str]
Send = Callable[..., None]

MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}
LINE = {
    "type": "record",
    "name": "Line",
    "namespace": "shop",
    "fields": [{"name": "price", "type": MONEY}],
}
ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "lines", "type": {"type": "array", "items": "shop.Line"}},
    ],
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from running(apicurio(tmp_path_factory.mktemp("registry")), "Apicurio Registry")


def feed(broker: str, registry: str, topic: str, **options: Any) -> Feed:
    source = KafkaOptions(
        (topic,), {"bootstrap.servers": broker}, schema_registry={"url": registry}, **options
    )
    return Feed("events", "json", source, file="feeds.yml")


def test_what_confluents_serializer_wrote_lands_and_the_rest_waits_for_a_replay(
    broker: str, registry: str, new_topic: NewTopic, send: Send, lakehouse: Path
) -> None:
    topic = new_topic()
    client = SchemaRegistryClient({"url": registry})
    client.register_schema("line", Schema(json.dumps(LINE), "AVRO"))
    schema = Schema(json.dumps(ORDER), "AVRO", [SchemaReference("shop.Line", "line", 1)])
    write_value = AvroSerializer(client, schema)
    write_key = AvroSerializer(client, '"long"')
    order = {"id": 7, "lines": [{"price": Decimal("123456789012345678.90")}]}
    value = write_value(order, SerializationContext(topic, MessageField.VALUE))
    key = write_key(7, SerializationContext(topic, MessageField.KEY))
    assert value is not None
    unknown = value[:1] + (2**31 - 1).to_bytes(4) + value[5:]
    damaged = [unknown, b"\0\xff\xff\xff\xff\0", b"\1" + b"0123456789abcdef"]
    send(topic, [(key, value), *((key, bad) for bad in damaged), (key, None)])
    both = feed(broker, registry, topic, key_encoding="avro", value_encoding="avro")
    result = land(both, lakehouse)
    assert (result.landed, result.rejected) == (2, 3)
    row, tombstone = bronze_rows(lakehouse, "events")
    assert json.loads(row["value"]) == {"id": 7, "lines": [{"price": "123456789012345678.90"}]}
    assert (row["key"], tombstone["key"], tombstone["value"]) == ("7", "7", None)
    assert row["headers"] == {
        "key_schema_id": str(int.from_bytes((key or b"")[1:5])),
        "value_schema_id": str(int.from_bytes(value[1:5])),
    }
    rejects = quarantine_rows(lakehouse)
    assert {r["reason"] for r in rejects} == {"the value has a schema that is not in the registry"}
    assert [base64.b64decode(reject["value"]) for reject in rejects] == damaged
    assert quarantine.replay(both, lakehouse, lambda: NOW).still_rejected == 3


def test_protobuf_is_read_where_the_registry_has_the_serialized_form(
    broker: str, registry: str, new_topic: NewTopic, lakehouse: Path
) -> None:
    """This registry gives a schema as it was registered, whatever form is asked for."""
    client = SchemaRegistryClient({"url": registry})
    as_text = 'syntax = "proto3"; message Order { int64 id = 1; }'
    text_id = client.register_schema("order", Schema(as_text, "PROTOBUF"))
    file = FileDescriptorProto(name="customer.proto", syntax="proto3")
    message = file.message_type.add(name="Customer")
    message.field.add(
        name="customer_id",
        number=1,
        type=FieldDescriptorProto.TYPE_INT64,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
    serialized = base64.b64encode(file.SerializeToString()).decode()
    serialized_id = client.register_schema("customer", Schema(serialized, "PROTOBUF"))

    def topic_of(schema_id: int) -> str:
        head = SchemaId("PROTOBUF", schema_id=schema_id, message_indexes=[0]).id_to_bytes()
        return new_topic([head + b"\x08\x07"])

    options = {"value_encoding": "protobuf"}
    result = land(feed(broker, registry, topic_of(text_id), **options), lakehouse, fail=True)
    assert result.error is not None
    assert "format=serialized" in result.error
    assert (bronze_rows(lakehouse, "events"), quarantine_rows(lakehouse)) == ([], [])
    other = lakehouse.with_name("other")
    land(feed(broker, registry, topic_of(serialized_id), **options), other)
    assert [row["value"] for row in bronze_rows(other, "events")] == ['{"customer_id":7}']
