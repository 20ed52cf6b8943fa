"""Kafka feeds: read each partition from the offset that bronze holds, up to what is there now.

No consumer group decides anything: partitions are assigned by hand, and the only record of
progress is the application transaction that is committed with the rows.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import (
    OFFSET_INVALID,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
)
from confluent_kafka import TopicPartition as KafkaPartition

from ingestion.bronze import MAX_CONFLICTS, BatchResult, Bronze, Staging, Tables, TopicPartition
from ingestion.config import Feed, KafkaOptions
from ingestion.errors import ConflictError, FeedError
from ingestion.records import (
    REJECT_SCHEMA,
    ROW_SCHEMA,
    Check,
    Headers,
    Reject,
    as_text,
    headers_array,
    reject_rows,
    text_headers,
    timestamps,
    value_check,
)

log = logging.getLogger(__name__)
client_log = logging.getLogger(f"{__name__}.client")

# Messages per call: large enough to be cheap, small enough that batch_bytes is not far exceeded.
CONSUME = 1_000

# Of one batch: what is already in quarantine from a try that did not get into bronze.
Handled = Mapping[tuple[str, int], set[int]]


class KafkaSource:
    """One Kafka feed."""

    def __init__(self, feed: Feed, options: KafkaOptions, state_directory: Path) -> None:
        """Take the settings; nothing is connected before `check`."""
        self.feed, self.options = feed, options
        self._check_value = value_check(feed.format, feed.key)
        self._spill = state_directory
        self._consumer: Consumer | None = None
        self._last_error = "no answer"
        self.partitions: list[TopicPartition] = []

    def check(self) -> None:
        """Connect, and find the topics' partitions. Raise ConfigError where that fails."""
        if self._consumer is None:
            self._consumer = self._connect()
        topics = self._metadata(self._consumer)
        self.partitions = []
        for topic in self.options.topics:
            found = topics.get(topic)
            if found is None or found.error is not None:
                servers = self.options.settings["bootstrap.servers"]
                raise self.feed.error("kafka.topics", f"there is no topic '{topic}' at {servers}")
            self.partitions += [TopicPartition(topic, p) for p in sorted(found.partitions)]

    def _connect(self) -> Consumer:
        settings = {
            "group.id": f"ingest-{self.feed.name}",
            **self.options.settings,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "allow.auto.create.topics": False,
            "error_cb": self._note_error,
        }
        try:
            return Consumer(settings, logger=client_log)
        except KafkaException as error:
            raise self.feed.error("kafka.settings", error.args[0].str()) from error

    def _metadata(self, consumer: Consumer) -> Mapping[str, Any]:
        """Ask for all topics: to ask for one by name may create it."""
        try:
            found = consumer.list_topics(timeout=self.options.connect_timeout_seconds)
            return dict(found.topics)
        except KafkaException as error:
            consumer.poll(0)  # lets the client say why
            servers = self.options.settings["bootstrap.servers"]
            raise self.feed.error(
                "kafka.settings.bootstrap.servers",
                f"cannot reach a broker at {servers} ({self._last_error}); check both",
            ) from error

    def _note_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = error.str()

    def close(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def land(self, tables: Tables) -> Iterator[BatchResult]:
        """Land everything up to the end that each partition has now; yield each batch."""
        tables.refresh()
        ends = {at: self._watermarks(at)[1] for at in self.partitions}
        conflicts = 0
        while True:
            try:
                for result in self._drain(ends, tables):
                    conflicts = 0
                    yield result
                return
            except ConflictError as error:
                conflicts += 1
                if conflicts >= MAX_CONFLICTS:
                    raise
                log.info("feed %s: %s; reading the positions again", self.feed.name, error)
                tables.refresh()

    def lag(self, bronze: Bronze) -> dict[str, int]:
        """Return how many offsets lie between what is landed and the end."""
        self.check()
        messages = 0
        for at in self.partitions:
            low, high = self._watermarks(at)
            position = bronze.next_offset(at)
            messages += high - (low if position is None else position)
        return {"messages": messages}

    def _client(self) -> Consumer:
        if self._consumer is None:
            raise FeedError("not connected")
        return self._consumer

    def _watermarks(self, at: TopicPartition) -> tuple[int, int]:
        """Return the first offset of a partition and the one after its last."""
        low, high = self._client().get_watermark_offsets(
            KafkaPartition(*at), timeout=self.options.connect_timeout_seconds
        )
        return low, high

    def _start(self, at: TopicPartition, bronze: Bronze) -> int:
        """Return where to read on; raise where records between there and here are gone."""
        low, high = self._watermarks(at)
        position = bronze.next_offset(at)
        if position is None:
            return low
        place = f"{at.topic}/{at.partition}"
        if position < low:
            raise FeedError(
                f"{place}: offsets {position} to {low - 1} were deleted by the broker"
                " before they were landed"
            )
        if position > high:
            raise FeedError(
                f"{place}: landed up to offset {position}, but the partition ends at {high}:"
                " was the topic deleted and created again?"
            )
        return position

    def _drain(self, ends: Mapping[TopicPartition, int], tables: Tables) -> Iterator[BatchResult]:
        """Read from the landed positions to the ends, batch by batch."""
        consumer = self._client()
        starts = {at: self._start(at, tables.bronze) for at in self.partitions}
        handled: dict[tuple[str, int], set[int]] = {}
        for at, start in starts.items():
            if found := tables.quarantine.positions(self.feed.name, at, start):
                handled[at] = found
        positions = {at: start for at, start in starts.items() if start < ends[at]}
        open_ = set(positions)
        if not open_:
            return
        consumer.assign([KafkaPartition(*at, start) for at, start in positions.items()])
        try:
            while open_:
                messages, ended = self._read_batch(consumer, open_)
                before, positions = positions, {**positions, **_positions(consumer, positions)}
                open_ -= {at for at in open_ if at in ended or positions[at] >= ends[at]}
                # Offsets without a record (ends of transactions) are progress too.
                moved = {at: p for at, p in positions.items() if p > before[at]}
                if moved:
                    yield self._land_batch(messages, moved, handled, tables)
                consumer.pause([KafkaPartition(*at) for at in positions if at not in open_])
        finally:
            consumer.unassign()

    def _read_batch(
        self, consumer: Consumer, open_: set[TopicPartition]
    ) -> tuple[list[Any], set[TopicPartition]]:
        """Read until the batch is full or every open partition has ended."""
        batch: list[Any] = []
        size = 0
        ended: set[TopicPartition] = set()
        deadline = time.monotonic() + self.options.stall_timeout_seconds
        while len(batch) < self.options.batch_rows and size < self.options.batch_bytes:
            wanted = min(CONSUME, self.options.batch_rows - len(batch))
            # Any: the client declares every field of a message as optional.
            messages: list[Any] = consumer.consume(wanted, timeout=0.2)
            if messages:
                deadline = time.monotonic() + self.options.stall_timeout_seconds
            elif time.monotonic() > deadline:
                raise FeedError(
                    f"the broker sent nothing for {self.options.stall_timeout_seconds} seconds"
                    f" ({self._last_error})"
                )
            for message in messages:
                error = message.error()
                if error is None:
                    batch.append(message)
                    size += len(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(TopicPartition(message.topic(), message.partition()))
                else:
                    raise FeedError(f"{message.topic()}/{message.partition()}: {error.str()}")
            if ended >= open_:
                break
        return batch, ended

    def _land_batch(
        self,
        messages: list[Any],
        offsets: Mapping[TopicPartition, int],
        handled: Handled,
        tables: Tables,
    ) -> BatchResult:
        self._spill.mkdir(parents=True, exist_ok=True)
        rows = Staging(ROW_SCHEMA, self._spill, 2 * self.options.batch_bytes)
        rejects = Staging(REJECT_SCHEMA, self._spill, 2 * self.options.batch_bytes)
        accepted, rejected = decode(messages, self._check_value, handled)
        if accepted.num_rows:
            rows.add(accepted)
        if rejected:
            rejects.add(reject_rows(rejected))
        return tables.commit(tables.bronze.batch_id + 1, rows, rejects, offsets)


def _positions(consumer: Consumer, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return the offsets that the consumer would read next, where it has read at all."""
    found = consumer.position([KafkaPartition(*key) for key in at])
    return {
        TopicPartition(p.topic, p.partition): p.offset for p in found if p.offset > OFFSET_INVALID
    }


def decode(
    messages: list[Any], check: Check, handled: Handled
) -> tuple[pa.RecordBatch, list[Reject]]:
    """Split messages into rows to land and rejects, leaving out what is in quarantine already."""
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
        key, value, raw_headers = message.key(), message.value(), message.headers()
        kind, milliseconds = message.timestamp()
        when = None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds
        named = text_headers(raw_headers) if raw_headers else None
        reason = None if value is None else check(value)
        if key is not None and not _is_utf8(key):
            reason = reason or "the key is not valid UTF-8"
        if reason is not None:
            key_text, key_encoding = (None, []) if key is None else as_text(key, "key")
            value_text, value_encoding = (None, []) if value is None else as_text(value, "value")
            all_headers = [*(named or []), *key_encoding, *value_encoding]
            rejects.append(
                Reject(topic, partition, offset, key_text, value_text, all_headers, when, reason)
            )
            continue
        topics.append(topic)
        partitions.append(partition)
        offsets.append(offset)
        keys.append(key)
        values.append(value)
        headers.append(named)
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
