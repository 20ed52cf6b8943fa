"""Kafka messages to rows of bronze and to rejects."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from ingestion.bronze import TopicPartition
from ingestion.checks import ValueCheck, are_utf8, check_text
from ingestion.config import Feed, KafkaOptions
from ingestion.errors import DecodeError
from ingestion.records import (
    ROW_SCHEMA,
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


class Columns(NamedTuple):
    """Messages as they were received, column by column."""

    topics: Sequence[str]
    partitions: Sequence[int]
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Sequence[tuple[str, bytes | None]] | None]
    milliseconds: Sequence[int | None]


def decode(
    messages: list[Any],
    check: ValueCheck,
    handled: Handled,
    names: Mapping[TopicPartition, str],
    decoder: "Decoder | None" = None,
) -> tuple[pa.RecordBatch, list[Reject]]:
    """Split messages into rows to land and rejects, leaving out what is in quarantine already.

    `names`: the source under which partitions land, where it is not the topic. What is rejected
    keeps the bytes that were received.
    """
    if handled:
        messages = [
            m for m in messages if m.offset() not in handled.get((m.topic(), m.partition()), ())
        ]
    # Column by column, which takes far less time than message by message.
    columns = Columns(
        [message.topic() for message in messages],
        [message.partition() for message in messages],
        [message.offset() for message in messages],
        [message.key() for message in messages],
        [message.value() for message in messages],
        [message.headers() for message in messages],
        [_milliseconds(message.timestamp()) for message in messages],
    )
    return judge(columns, check, names, decoder)


def judge(
    given: Columns,
    check: ValueCheck,
    names: Mapping[TopicPartition, str],
    decoder: "Decoder | None" = None,
) -> tuple[pa.RecordBatch, list[Reject]]:
    """Split messages into rows to land and rejects, as `decode` does."""
    keys, values, headers = given.keys, given.values, given.headers
    reasons: dict[int, str] = {}
    if decoder is not None:
        keys, values, headers = list(keys), list(values), list(headers)
        for n, raw in enumerate(headers):
            try:
                keys[n], values[n], schemas = decoder(keys[n], values[n], raw or ())
                headers[n] = [*schemas, *(raw or ())]
            except DecodeError as error:
                reasons[n] = str(error)
    key_column, value_column = pa.array(keys, pa.binary()), pa.array(values, pa.binary())
    reasons = check.reasons(values, value_column) | reasons
    if not are_utf8(key_column):
        for n, key in enumerate(keys):
            if key is not None and check_text(key) is not None:
                reasons.setdefault(n, "the key is not valid UTF-8")
    sources = given.topics
    if names:
        at = map(TopicPartition, given.topics, given.partitions)
        sources = [names.get(each, each.topic) for each in at]
    encoded = () if decoder is None else decoder.encodings
    rejects = [_reject(given, n, sources[n], reasons[n], encoded) for n in sorted(reasons)]
    columns: list[pa.Array[Any]] = [
        pa.array(sources, pa.string()),
        pa.array(given.partitions, pa.int32()),
        pa.array(given.offsets, pa.int64()),
        key_column,
        value_column,
        headers_array([text_headers(found) if found else None for found in headers]),
        timestamps(given.milliseconds),
    ]
    if reasons:
        is_kept = pa.array([n not in reasons for n in range(len(values))], pa.bool_())
        columns = [column.filter(is_kept) for column in columns]
    # What was not rejected is UTF-8.
    columns[3:5] = [column.view(pa.string()) for column in columns[3:5]]
    return pa.RecordBatch.from_arrays(columns, schema=ROW_SCHEMA), rejects


def _milliseconds(timestamp: tuple[int, int]) -> int | None:
    kind, milliseconds = timestamp
    return None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds


def _reject(given: Columns, n: int, source: str, reason: str, encoded: Collection[str]) -> Reject:
    """Return a message as it was received."""
    key, key_encoding = as_text(given.keys[n], "key", "key" in encoded)
    value, value_encoding = as_text(given.values[n], "value", "value" in encoded)
    headers = [*text_headers(given.headers[n] or ()), *key_encoding, *value_encoding]
    address = source, given.partitions[n], given.offsets[n]
    return Reject(*address, key, value, headers, given.milliseconds[n], reason)
