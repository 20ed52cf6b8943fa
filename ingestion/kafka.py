"""Kafka feeds: read each partition from the offset that bronze holds, up to what is there now or
until told to stop.

No consumer group decides anything: partitions are assigned by hand, and the only record of
progress is the application transaction that is committed with the rows.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from confluent_kafka import (
    OFFSET_INVALID,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
)
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from ingestion.bronze import MAX_CONFLICTS, BatchResult, Bronze, Staging, Tables, TopicPartition
from ingestion.config import Feed, KafkaOptions, Start
from ingestion.errors import ConflictError, DecodeError, FeedError
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

if TYPE_CHECKING:
    from ingestion.encodings import Decoder

log = logging.getLogger(__name__)
client_log = logging.getLogger(f"{__name__}.client")

# Messages per call: large enough to be cheap, small enough that batch_bytes is not far exceeded.
CONSUME = 1_000
# Bytes that the client and Python hold for a message besides its value, roughly.
MESSAGE_OVERHEAD = 1_000
# No call waits longer than this, so that a stop is soon seen.
WAIT_SECONDS = 0.2


# Of one batch: what is already in quarantine from a try that did not get into bronze.
Handled = Mapping[tuple[str, int], set[int]]


class Follow(NamedTuple):
    """How a feed is read that is to be read on and on.

    `report_lags` is told how many offsets lie between what was read and the end.
    """

    stop: threading.Event
    trigger_seconds: float
    batch_bytes: int
    report_lags: Callable[[Mapping[TopicPartition, int]], None]


class Gap(NamedTuple):
    """Records that were not landed and cannot be read any more.

    `anew`: from `resume` on the broker gives offsets that were landed before to other records.
    """

    reason: str
    resume: int
    anew: bool


@dataclass
class Place:
    """Where a partition is read on, and the address under which its records land.

    `facts` is what the next commit has to tell about it besides the position; `must_commit`: it
    has to be told even if there is nothing to land.
    """

    address: TopicPartition
    position: int
    facts: dict[TopicPartition, int] = field(default_factory=dict)
    must_commit: bool = False
    gap: Reject | None = None


class KafkaSource:
    """One Kafka feed."""

    def __init__(self, feed: Feed, options: KafkaOptions, state_directory: Path) -> None:
        """Take the settings; nothing is connected before `check`."""
        self.feed, self.options = feed, options
        self._check_value = value_check(feed.format, feed.key)
        self._decoder = open_decoder(feed, options)
        self._spill = state_directory
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None
        self._last_error, self._suspect = "no answer", "bootstrap.servers"
        self._heard_at = self._look_at = 0.0
        self.partitions: list[TopicPartition] = []

    def check(self) -> None:
        """Connect, and find the topics' partitions. Raise ConfigError where that fails."""
        if self._consumer is None:
            self._consumer = self._connect()
        self.partitions = self._discover(self._consumer)
        if self._decoder is not None:
            self._decoder.check()

    def _discover(self, consumer: Consumer) -> list[TopicPartition]:
        found = self._metadata(consumer)
        pattern = self.options.pattern
        if pattern is not None:
            # Names that begin with __ are the broker's own.
            names = sorted(t for t in found if re.fullmatch(pattern, t) and t[:2] != "__")
            if not names:
                log.warning("feed %s: no topic matches %s yet", self.feed.name, pattern)
        else:
            names = list(self.options.topics)
        for topic in names:
            if topic not in found or found[topic].error is not None:
                servers = self.options.settings["bootstrap.servers"]
                raise self.feed.error("kafka.topics", f"there is no topic '{topic}' at {servers}")
        return [TopicPartition(t, p) for t in names for p in sorted(found[t].partitions)]

    def _connect(self) -> Consumer:
        settings = {
            "group.id": f"ingest-{self.feed.name}",
            "queued.max.messages.kbytes": 16_384,
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
                f"kafka.settings.{self._suspect}",
                f"cannot reach a broker at {servers} ({self._last_error}); check both",
            ) from error

    def _topic_ids(self) -> dict[str, int]:
        """Return 63 bits of each topic's id, which a topic that is made anew does not share.

        Brokers before 2.8, and some that are not Apache Kafka, have none.
        """
        if self._admin is None:
            self._admin = AdminClient(dict(self.options.settings), logger=client_log)
        topics = sorted({at.topic for at in self.partitions})
        if not topics:
            return {}
        timeout = self.options.connect_timeout_seconds
        answers = self._admin.describe_topics(TopicCollection(topics), request_timeout=timeout)
        ids = {}
        for topic, answer in answers.items():
            uuid = answer.result().topic_id
            bits = uuid.get_most_significant_bits() ^ uuid.get_least_significant_bits()
            if bits:
                ids[topic] = bits & (2**63 - 1)
        return ids

    def _note_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = error.str()
            # A refused certificate comes as any broken connection; only the text says so.
            is_login = error.code() == KafkaError._AUTHENTICATION
            is_tls = "SSL" in error.str()
            self._suspect = "sasl.*" if is_login else "ssl.*" if is_tls else "bootstrap.servers"

    def close(self) -> None:
        """Disconnect."""
        self._admin = None
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def land(self, tables: Tables, follow: Follow | None = None) -> Iterator[BatchResult]:
        """Land everything up to the end that each partition has now; yield each batch.

        With `follow`, go on until it says stop; new topics and partitions are found meanwhile.
        """
        tables.refresh()
        conflicts = 0
        while True:
            try:
                for result in self._drain(tables, follow):
                    conflicts = 0
                    yield result
                if follow is None or follow.stop.is_set():
                    return
            except ConflictError as error:
                conflicts += 1
                if conflicts >= MAX_CONFLICTS:
                    raise
                log.info("feed %s: %s; reading the positions again", self.feed.name, error)
                seen = tables.bronze.batch_id
                tables.refresh()
                if follow is not None and tables.bronze.batch_id > seen:
                    conflicts = 0  # another process lands this feed: let it
                    follow.stop.wait(follow.trigger_seconds)
            self.check()

    def lag(self, bronze: Bronze) -> dict[str, int]:
        """Return how many offsets lie between what is landed and the end."""
        self.check()
        messages = 0
        for at in self.partitions:
            low, high = self._watermarks(at)
            position = bronze.next_offset(_address(at, bronze))
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

    # --- where to read --------------------------------------------------------------------------

    def _places(
        self,
        marks: Mapping[TopicPartition, tuple[int, int]],
        ids: Mapping[str, int],
        tables: Tables,
    ) -> dict[TopicPartition, Place]:
        """Return where to read on; raise where records are missing and the feed is to stop."""
        bronze = tables.bronze
        begun = {at.topic for at in marks if bronze.next_offset(_address(at, bronze)) is not None}
        places = {}
        for at, (low, high) in marks.items():
            address, topic_id = _address(at, bronze), ids.get(at.topic)
            position = bronze.next_offset(address)
            known_id = bronze.next_offset(_identity(address))
            if position is None:
                places[at] = self._first_place(at, low, high, at.topic in begun, tables)
            elif (gap := find_gap(position, low, high, known_id, topic_id)) is None:
                places[at] = Place(address, position)
            elif self.options.on_gap == "stop":
                raise FeedError(f"{at.topic}/{at.partition}: {gap.reason}")
            else:
                places[at] = _place_after(gap, position, at, bronze)
            if topic_id is not None and bronze.next_offset(_identity(places[at].address)) is None:
                places[at].facts[_identity(places[at].address)] = topic_id
        return places

    def _first_place(
        self, at: TopicPartition, low: int, high: int, topic_begun: bool, tables: Tables
    ) -> Place:
        """Return where to begin a partition; the `start` setting is for topics not yet begun.

        What appears later, be it a partition or a topic that a pattern finds, is read whole.
        """
        options = self.options
        found_later = bool(options.pattern) and tables.bronze.batch_id > 0
        if topic_begun or (found_later and at.topic not in options.start):
            return Place(at, low)
        start = options.start.get(at.topic, options.start.get("*", "earliest"))
        position = start_offset(start, at.partition, low, high, lambda t: self._offset_at(at, t))
        if not low <= position <= high:
            raise self.feed.error(
                "kafka.start",
                f"{at.topic}/{at.partition} holds offsets {low} to {high}, not {position}",
            )
        # Otherwise the next run would begin somewhere else.
        return Place(at, position, must_commit=start != "earliest")

    def _offset_at(self, at: TopicPartition, time_: datetime) -> int:
        """Return the first offset that is not older; -1 (the end) where all are."""
        asked = KafkaPartition(*at, int(time_.timestamp() * 1000))
        (found,) = self._client().offsets_for_times(
            [asked], timeout=self.options.connect_timeout_seconds
        )
        return int(found.offset)

    # --- reading --------------------------------------------------------------------------------

    def _drain(self, tables: Tables, follow: Follow | None) -> Iterator[BatchResult]:
        """Read on from the landed positions, batch by batch.

        Return at the ends that the partitions had; with `follow`, when it says stop or when
        there are other partitions than before.
        """
        consumer = self._client()
        ids = self._topic_ids()
        marks = {at: self._watermarks(at) for at in self.partitions}
        places = self._places(marks, ids, tables)
        if any(place.must_commit for place in places.values()):
            yield self._settle(places, tables)
        handled: dict[tuple[str, int], set[int]] = {}
        for at, place in places.items():
            if found := tables.quarantine.positions(self.feed.name, place.address, place.position):
                handled[at] = found
        positions = {
            at: place.position
            for at, place in places.items()
            if follow is not None or place.position < marks[at][1]
        }
        open_ = set(positions)
        self._heard_at = time.monotonic()
        self._look_at = self._heard_at + self.options.discovery_seconds
        consumer.assign([KafkaPartition(*at, start) for at, start in positions.items()])
        try:
            while open_ or follow is not None:
                messages, ended = self._read_batch(consumer, open_, follow)
                before, positions = positions, {**positions, **_positions(consumer, positions)}
                # Offsets without a record (ends of transactions) are progress too.
                moved = {at: p for at, p in positions.items() if p > before[at]}
                if moved:
                    # What was read between two sights of one id is of that topic.
                    if ids and self._topic_ids() != ids:
                        raise ConflictError("a topic was deleted or created again")
                    yield self._land_batch(messages, moved, places, handled, tables)
                if follow is not None:
                    follow.report_lags(_lags(consumer, positions))
                    if follow.stop.is_set() or self._look_again(consumer, positions, bool(moved)):
                        return
                    continue
                open_ -= {at for at in open_ if at in ended or positions[at] >= marks[at][1]}
                consumer.pause([KafkaPartition(*at) for at in positions if at not in open_])
        finally:
            consumer.unassign()

    def _look_again(
        self, consumer: Consumer, positions: Mapping[TopicPartition, int], moved: bool
    ) -> bool:
        """Now and then, see whether there are other partitions, and whether reading goes on."""
        now = time.monotonic()
        if moved:
            self._heard_at = now
        if now < self._look_at:
            return False
        self._look_at = now + self.options.discovery_seconds
        if now - self._heard_at > self.options.stall_timeout_seconds and any(
            self._watermarks(at)[1] > position for at, position in positions.items()
        ):
            raise self._stalled()
        return self._discover(consumer) != self.partitions

    def _stalled(self) -> FeedError:
        return FeedError(
            f"the broker sent nothing for {self.options.stall_timeout_seconds} seconds"
            f" ({self._last_error})"
        )

    def _read_batch(
        self, consumer: Consumer, open_: set[TopicPartition], follow: Follow | None
    ) -> tuple[list[Any], set[TopicPartition]]:
        """Read until the batch is full or every open partition has ended.

        With `follow`, until the batch is full, the trigger's time has passed, or it says stop.
        """
        batch: list[Any] = []
        size = 0
        ended: set[TopicPartition] = set()
        limit, overhead = self.options.batch_bytes, 0
        if follow is not None:
            limit, overhead = min(limit, follow.batch_bytes), MESSAGE_OVERHEAD
        patience = self.options.stall_timeout_seconds
        deadline = time.monotonic() + (patience if follow is None else follow.trigger_seconds)
        while len(batch) < self.options.batch_rows and size < limit:
            wanted = min(CONSUME, self.options.batch_rows - len(batch))
            wait = min(WAIT_SECONDS, max(0.0, deadline - time.monotonic()))
            # Any: the client declares every field of a message as optional.
            messages: list[Any] = consumer.consume(wanted, timeout=wait)
            if follow is None and messages:
                deadline = time.monotonic() + patience
            for message in messages:
                error = message.error()
                if error is None:
                    batch.append(message)
                    size += len(message) + overhead
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(TopicPartition(message.topic(), message.partition()))
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise ConflictError(f"{message.topic()}/{message.partition()}: {error.str()}")
                else:
                    raise FeedError(f"{message.topic()}/{message.partition()}: {error.str()}")
            late = time.monotonic() >= deadline
            if follow is not None:
                if late or follow.stop.is_set():
                    break
            elif ended >= open_:
                break
            elif late:
                raise self._stalled()
        return batch, ended

    # --- landing --------------------------------------------------------------------------------

    def _settle(self, places: Mapping[TopicPartition, Place], tables: Tables) -> BatchResult:
        """Commit where to begin or to go on, with a record in quarantine for each gap."""
        offsets: dict[TopicPartition, int] = {}
        gaps = []
        for at, place in places.items():
            if not place.must_commit:
                continue
            offsets |= {**place.facts, place.address: place.position}
            place.facts.clear()
            if place.gap is not None:
                log.warning("feed %s: %s/%d: %s", self.feed.name, *at, place.gap.reason)
                where = TopicPartition(place.gap.source, place.gap.partition)
                first = place.gap.position
                if first not in tables.quarantine.positions(self.feed.name, where, first):
                    gaps.append(place.gap)
        return self._commit(None, gaps, offsets, tables)

    def _land_batch(
        self,
        messages: list[Any],
        moved: Mapping[TopicPartition, int],
        places: Mapping[TopicPartition, Place],
        handled: Handled,
        tables: Tables,
    ) -> BatchResult:
        names = {at: p.address.topic for at, p in places.items() if p.address.topic != at.topic}
        accepted, rejected = decode(messages, self._check_value, handled, names, self._decoder)
        offsets: dict[TopicPartition, int] = {}
        for at, position in moved.items():
            offsets |= {**places[at].facts, places[at].address: position}
        result = self._commit(accepted, rejected, offsets, tables)
        for at in moved:
            places[at].facts.clear()
        return result

    def _commit(
        self,
        accepted: pa.RecordBatch | None,
        rejected: list[Reject],
        offsets: Mapping[TopicPartition, int],
        tables: Tables,
    ) -> BatchResult:
        self._spill.mkdir(parents=True, exist_ok=True)
        rows = Staging(ROW_SCHEMA, self._spill, 2 * self.options.batch_bytes)
        rejects = Staging(REJECT_SCHEMA, self._spill, 2 * self.options.batch_bytes)
        if accepted is not None and accepted.num_rows:
            rows.add(accepted)
        if rejected:
            rejects.add(reject_rows(rejected))
        return tables.commit(tables.bronze.batch_id + 1, rows, rejects, offsets)


# A topic whose offsets begin anew lands under another name, `topic#2` and so on, because an address
# stands once. No topic's name holds a #, so what is known of a partition is kept as further
# "offsets", in the commit of its rows.


def _generation(at: TopicPartition) -> TopicPartition:
    """Return what keeps how often a partition's offsets have begun anew, counted from 1."""
    return TopicPartition(f"{at.topic}#", at.partition)


def _identity(address: TopicPartition) -> TopicPartition:
    """Return what keeps the id of the topic that lands under an address."""
    return TopicPartition(f"{address.topic}#id", address.partition)


def _address(at: TopicPartition, bronze: Bronze) -> TopicPartition:
    """Return the address under which a partition lands."""
    return _numbered(at, bronze.next_offset(_generation(at)) or 1)


def _numbered(at: TopicPartition, generation: int) -> TopicPartition:
    return at if generation == 1 else TopicPartition(f"{at.topic}#{generation}", at.partition)


def find_gap(
    position: int, low: int, high: int, known_id: int | None, topic_id: int | None
) -> Gap | None:
    """Compare the landed position with what the partition holds; None: it can be read on."""
    same_id = topic_id is not None and known_id == topic_id
    if topic_id is not None and known_id is not None and not same_id:
        return Gap(
            f"the topic was deleted and created again (it has another id); what the former one"
            f" held from offset {position} on was not landed",
            low,
            anew=True,
        )
    if position > high:
        guess = "was its end cut off?" if same_id else "was the topic deleted and created again?"
        return Gap(
            f"landed up to offset {position}, but the partition ends at {high}: {guess}",
            high if same_id else low,
            anew=True,
        )
    if position < low:
        return Gap(
            f"offsets {position} to {low - 1} were deleted by the broker before they were landed",
            low,
            anew=False,
        )
    return None


def _place_after(gap: Gap, position: int, at: TopicPartition, bronze: Bronze) -> Place:
    """Return where to go on after a gap, which is recorded at the first missing offset."""
    address = _address(at, bronze)
    record = Reject(address.topic, at.partition, position, None, None, [], None, gap.reason)
    if not gap.anew:
        return Place(address, gap.resume, must_commit=True, gap=record)
    generation = (bronze.next_offset(_generation(at)) or 1) + 1
    # The former address ends after the record of the gap.
    facts = {_generation(at): generation, address: position + 1}
    return Place(_numbered(at, generation), gap.resume, facts, must_commit=True, gap=record)


def start_offset(
    start: Start, partition: int, low: int, high: int, offset_at: Callable[[datetime], int]
) -> int:
    """Return the offset that a `start` setting means; a partition it does not name: the first."""
    if isinstance(start, datetime):
        found = offset_at(start)
        return high if found < 0 else found
    if isinstance(start, Mapping):
        return start.get(partition, low)
    return high if start == "latest" else low


def _lags(consumer: Consumer, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return how far each position is from the end that the last fetch showed."""
    lags = {}
    for at, position in positions.items():
        _, high = consumer.get_watermark_offsets(KafkaPartition(*at), cached=True)
        if high >= 0:
            lags[at] = max(0, high - position)
    return lags


def _positions(consumer: Consumer, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return the offsets that the consumer would read next, where it has read at all."""
    found = consumer.position([KafkaPartition(*key) for key in at])
    return {
        TopicPartition(p.topic, p.partition): p.offset for p in found if p.offset > OFFSET_INVALID
    }


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
