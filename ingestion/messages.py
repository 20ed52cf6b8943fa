"""Kafka messages to rows of bronze and to rejects."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from ingestion.bronze import TopicPartition
from ingestion.config import Feed, KafkaOptions
from ingestion.errors import DecodeError
from ingestion.records import (
    ROW_SCHEMA,
    Check,
    Headers,
    Reject,
    as_text,
    headers_array,
    text_headers,
    timestamps,
)

if TYPE_CHECKING:
    from ingestion.encodings import Decoder

# Of one batch: what is already in quarantine from a try that did not get into bronze.
Handled = Mapping[tuple[str, int], set[int]]


def open_decoder(feed: Feed, options: KafkaOptions) -> "Decoder | None":
    """Return what decodes the messages of a feed; None where its keys and values are text."""
    if options.value_encoding == options.key_encoding == "text":
        return None
    from ingestion.encodings import Decoder  # noqa: PLC0415 - takes 0.5 s, which others save

    return Decoder(feed, options)


def decode(
    messages: list[Any],
    check: Check,
    handled: Handled,
    names: Mapping[TopicPartition, str],
    decoder: "Decoder | None" = None,
) -> tuple[pa.RecordBatch, list[Reject]]:
    """Split messages into rows to land and rejects, leaving out what is in quarantine already.

    `names`: the source under which partitions land, where it is not the topic. What is rejected
    keeps the bytes that were received.
    """
    encoded = () if decoder is None else decoder.encodings
    topics: list[str] = []
    partitions: list[int] = []
    offsets: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    headers: list[Headers | None] = []
    times: list[int | None] = []
    rejects: list[Reject] = []
    for message in messages:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if handled and offset in handled.get((topic, partition), ()):
            continue
        if names:
            topic = names.get(TopicPartition(topic, partition), topic)
        key, value, raw_headers = message.key(), message.value(), message.headers()
        kind, milliseconds = message.timestamp()
        when = None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds
        reason, schemas = None, None
        if decoder is not None:
            try:
                key, value, schemas = decoder(key, value, raw_headers or ())
            except DecodeError as error:
                reason = str(error)
        if reason is None and value is not None:
            reason = check(value)
        if key is not None and not _is_utf8(key):
            reason = reason or "the key is not valid UTF-8"
        if reason is not None:
            key_text, key_encoding = as_text(message.key(), "key", "key" in encoded)
            value_text, value_encoding = as_text(message.value(), "value", "value" in encoded)
            all_headers = [*text_headers(raw_headers or ()), *key_encoding, *value_encoding]
            rejects.append(
                Reject(topic, partition, offset, key_text, value_text, all_headers, when, reason)
            )
            continue
        topics.append(topic)
        partitions.append(partition)
        offsets.append(offset)
        keys.append(key)
        values.append(value)
        if schemas:
            raw_headers = [*schemas, *(raw_headers or ())]
        headers.append(text_headers(raw_headers) if raw_headers else None)
        times.append(when)
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(topics, type=pa.string()),
            pa.array(partitions, type=pa.int32()),
            pa.array(offsets, type=pa.int64()),
            pa.array(keys, type=pa.string()),
            pa.array(values, type=pa.string()),
            headers_array(headers),
            timestamps(times),
        ],
        schema=ROW_SCHEMA,
    )
    return batch, rejects


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
