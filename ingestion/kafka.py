"""Kafka feeds: read each partition from the offset that bronze holds, up to what is there now or
until told to stop.

The only record of progress is the application transaction that is committed with the rows.
Partitions are assigned by hand: all of them, or those that a consumer group gives this process.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import pyarrow as pa
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError
from confluent_kafka import TopicPartition as KafkaPartition

from ingestion.broker import Broker
from ingestion.bronze import (
    MAX_CONFLICTS,
    BatchResult,
    Bronze,
    Quarantine,
    Tables,
    TopicPartition,
)
from ingestion.checks import ValueCheck
from ingestion.config import Feed, KafkaOptions
from ingestion.errors import ConflictError, FeedError
from ingestion.messages import Handled, decode, open_decoder
from ingestion.places import (
    Place,
    address_of,
    find_gap,
    identity_key,
    place_after,
    start_offset,
)
from ingestion.records import Reject

log = logging.getLogger(__name__)

# Messages per call: each call waits for Python's lock while a batch is committed, so they should be
# few. The client's queue bounds what one brings, so batch_bytes is not far exceeded.
CONSUME = 10_000
# Bytes that the client and Python hold for a message besides its value, roughly.
MESSAGE_OVERHEAD = 1_000
# No call waits longer than this, so that a stop is soon seen.
WAIT_SECONDS = 0.2


class Follow(NamedTuple):
    """How a feed is read that is to be read on and on.

    `report_lags` is told how many offsets lie between what was read and the end.
    """

    stop: threading.Event
    trigger_seconds: float
    batch_bytes: int
    report_lags: Callable[[Mapping[TopicPartition, int]], None]


class KafkaSource:
    """One Kafka feed."""

    def __init__(self, feed: Feed, options: KafkaOptions) -> None:
        """Take the settings; nothing is connected before `check`."""
        self.feed, self.options = feed, options
        self._check_value = ValueCheck(feed.format, feed.key)
        self.decoder = open_decoder(feed, options)
        self._connected: Broker | None = None
        self._heard_at = self._look_at = 0.0
        self.partitions: list[TopicPartition] = []

    @property
    def _broker(self) -> Broker:
        if self._connected is None:
            self._connected = Broker(self.feed, self.options)
        return self._connected

    def check(self) -> None:
        """Connect, and find the topics' partitions. Raise ConfigError where that fails."""
        self.partitions = self._broker.partitions()
        if self.decoder is not None:
            self.decoder.check()

    def connect(self) -> Broker:
        """Do what `check` does, and return what asks the cluster."""
        self.check()
        return self._broker

    def close(self) -> None:
        """Disconnect."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    def columns(self) -> Mapping[str, int]:
        """Nothing: what is in a message is the models' part."""
        return {}

    def lag(self, bronze: Bronze) -> dict[str, int]:
        """Return how many offsets lie between what is landed and the end."""
        self.check()
        messages = 0
        for at in self.partitions:
            low, high = self._broker.watermarks(at)
            position = bronze.next_offset(address_of(at, bronze))
            messages += high - (low if position is None else position)
        return {"messages": messages}

    def land(self, tables: Tables, follow: Follow | None = None) -> Iterator[BatchResult]:
        """Land everything up to the end that each partition has now; yield each batch.

        With `follow`, go on until it says stop; new topics and partitions are found meanwhile.
        """
        tables.refresh()
        conflicts, seen = 0, tables.bronze.batch_id
        while True:
            try:
                for result in self._drain(tables, follow):
                    conflicts, seen = 0, result.batch_id
                    yield result
                if follow is None or follow.stop.is_set():
                    return
            except ConflictError as error:
                conflicts += 1
                if conflicts >= MAX_CONFLICTS:
                    raise
                log.info("feed %s: %s; reading the positions again", self.feed.name, error)
                tables.refresh()
                if follow is not None and tables.bronze.batch_id > seen:
                    conflicts = 0  # another process lands this feed: let it
                    follow.stop.wait(follow.trigger_seconds)
            tables.refresh()
            self.check()

    # --- where to read --------------------------------------------------------------------------

    def _share(self, follow: Follow | None) -> list[TopicPartition]:
        """Return the partitions to read: all, or what the group gives to this process."""
        membership = self._broker.membership
        if membership is None or follow is None:
            return self.partitions
        membership.join(sorted({at.topic for at in self.partitions}))
        membership.poll()
        return [at for at in self.partitions if at in membership.partitions]

    def _places(
        self,
        marks: Mapping[TopicPartition, tuple[int, int]],
        ids: Mapping[str, int],
        tables: Tables,
    ) -> dict[TopicPartition, Place]:
        """Return where to read on; raise where records are missing and the feed is to stop."""
        bronze = tables.bronze
        begun = {
            at.topic
            for at in self.partitions
            if bronze.next_offset(address_of(at, bronze)) is not None
        }
        places = {}
        for at, (low, high) in marks.items():
            address, topic_id = address_of(at, bronze), ids.get(at.topic)
            position = bronze.next_offset(address)
            known_id = bronze.next_offset(identity_key(address))
            if position is None:
                places[at] = self._first_place(at, low, high, at.topic in begun, tables)
            elif (gap := find_gap(position, low, high, known_id, topic_id)) is None:
                places[at] = Place(address, position)
            elif self.options.on_gap == "stop":
                raise FeedError(f"{at.topic}/{at.partition}: {gap.reason}")
            else:
                places[at] = place_after(gap, position, at, bronze)
            place = places[at]
            place.landed = bronze.next_offset(place.address)
            place.looked_at = tables.quarantine.next_offset(self.feed.name, place.address)
            if topic_id is not None and bronze.next_offset(identity_key(place.address)) is None:
                place.facts[identity_key(place.address)] = topic_id
        self._see_resets(places)
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
        position = start_offset(start, at.partition, low, high, partial(self._broker.offset_at, at))
        if not low <= position <= high:
            raise self.feed.error(
                "kafka.start",
                f"{at.topic}/{at.partition} holds offsets {low} to {high}, not {position}",
            )
        # Otherwise the next run would begin somewhere else.
        return Place(at, position, must_commit=start != "earliest")

    def _see_resets(self, places: Mapping[TopicPartition, Place]) -> None:
        """Say where somebody has reset the group's offsets: they do not decide what is read."""
        membership = self._broker.membership
        if membership is None:
            return
        timeout = self.options.connect_timeout_seconds
        for at, offset in membership.set_by_others(list(places), timeout).items():
            said = (
                f"{at.topic}/{at.partition}: the offset of group '{self.options.group}' was set to"
                f" {offset} by others; what is landed decides, so reading goes on at"
                f" {places[at].position}"
            )
            if self.options.on_gap == "stop":
                raise FeedError(f"{said} when on_gap is continue, or that offset is deleted")
            log.warning("feed %s: %s", self.feed.name, said)
        membership.note_landed({at: place.position for at, place in places.items()})

    # --- reading --------------------------------------------------------------------------------

    def _drain(self, tables: Tables, follow: Follow | None) -> Iterator[BatchResult]:
        """Read on from the landed positions, batch by batch; one is committed while the next is
        read.

        Return at the ends that the partitions had; with `follow`, when it says stop or when
        there are other partitions than before.
        """
        broker, consumer = self._broker, self._broker.consumer
        share = self._share(follow)
        ids = broker.topic_ids(share)
        marks = {at: broker.watermarks(at) for at in share}
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
        commits = _Commits()
        consumer.assign([KafkaPartition(*at, start) for at, start in positions.items()])
        try:
            while open_ or follow is not None:
                ends = {at: marks[at][1] for at in open_}
                messages, ended, is_full = self._read_batch(consumer, ends, follow)
                before, positions = positions, {**positions, **_positions(consumer, positions)}
                # Offsets without a record (ends of transactions) are progress too.
                moved = {at: p for at, p in positions.items() if p > before[at]}
                if moved:
                    # What was read between two sights of one id is of that topic.
                    if ids and broker.topic_ids(share) != ids:
                        raise ConflictError("a topic was deleted or created again")
                    batch = partial(self._land_batch, messages, moved, places, handled, tables)
                    yield from commits.begin(batch)
                if follow is not None:
                    if not is_full or broker.membership is not None:
                        yield from commits.end()
                    follow.report_lags(_lags(consumer, positions))
                    if follow.stop.is_set() or self._look_again(positions, share, follow, moved):
                        break
                    continue
                open_ -= {at for at in open_ if at in ended or positions[at] >= marks[at][1]}
                consumer.pause([KafkaPartition(*at) for at in positions if at not in open_])
            yield from commits.end()
        except Exception:
            yield from commits.end()
            raise
        finally:
            commits.close()
            consumer.resume([KafkaPartition(*at) for at in positions])  # or they stay paused
            consumer.unassign()

    def _look_again(
        self,
        positions: Mapping[TopicPartition, int],
        share: list[TopicPartition],
        follow: Follow,
        moved: Mapping[TopicPartition, int],
    ) -> bool:
        """See whether there are other partitions to read; now and then, whether reading goes on."""
        if self._share(follow) != share:
            return True
        now = time.monotonic()
        if moved:
            self._heard_at = now
        if now < self._look_at:
            return False
        self._look_at = now + self.options.discovery_seconds
        if now - self._heard_at > self.options.stall_timeout_seconds and any(
            self._broker.watermarks(at)[1] > position for at, position in positions.items()
        ):
            raise self._stalled()
        return self._broker.partitions() != self.partitions

    def _stalled(self) -> FeedError:
        return FeedError(
            f"the broker sent nothing for {self.options.stall_timeout_seconds} seconds"
            f" ({self._broker.last_error})"
        )

    def _read_batch(
        self,
        consumer: Consumer,
        ends: Mapping[TopicPartition, int],
        follow: Follow | None,
        rows: int | None = None,
    ) -> tuple[list[Any], set[TopicPartition], bool]:
        """Read until the batch is full or every open partition is at its end.

        With `follow`, until the batch is full, the trigger's time has passed, or it says stop.
        `rows`: it is full with so many, if that is less than the setting.
        Return the messages, the partitions that have ended, and whether the batch is full.
        """
        batch: list[Any] = []
        size = 0
        ended: set[TopicPartition] = set()
        limit, overhead = self.options.batch_bytes, 0
        if follow is not None:
            limit, overhead = min(limit, follow.batch_bytes), MESSAGE_OVERHEAD
        patience = self.options.stall_timeout_seconds
        deadline = time.monotonic() + (patience if follow is None else follow.trigger_seconds)
        rows = min(rows or self.options.batch_rows, self.options.batch_rows)
        while len(batch) < rows and size < limit:
            wanted = min(CONSUME, rows - len(batch))
            wait = min(WAIT_SECONDS, max(0.0, deadline - time.monotonic()))
            # Any: the client declares every field of a message as optional.
            messages: list[Any] = consumer.consume(wanted, timeout=wait)
            if follow is None and messages:
                deadline = time.monotonic() + patience
            records = [message for message in messages if message.error() is None]
            if len(records) < len(messages):
                ended |= _ended(messages)
            batch += records
            size += sum(map(len, records)) + overhead * len(records)
            late = time.monotonic() >= deadline
            if follow is not None:
                if late or follow.stop.is_set():
                    return batch, ended, False
            elif ended >= ends.keys() or (len(messages) < wanted and _are_reached(consumer, ends)):
                return batch, ended, False
            elif late:
                raise self._stalled()
        return batch, ended, True

    def read_again(
        self, at: TopicPartition, start: int, end: int
    ) -> Iterator[tuple[int, list[Any]]]:
        """Yield the messages of an interval of a partition in batches, each with where it ends.

        Raise ConflictError where the broker has deleted what is to be read.
        """
        consumer = self._broker.consumer
        consumer.assign([KafkaPartition(*at, start)])
        try:
            while start < end:
                messages, ended, _ = self._read_batch(consumer, {at: end}, None, end - start)
                start = end if ended else _positions(consumer, [at])[at]
                yield min(start, end), [m for m in messages if m.offset() < end]
        finally:
            consumer.unassign()

    # --- landing --------------------------------------------------------------------------------

    def _settle(self, places: Mapping[TopicPartition, Place], tables: Tables) -> BatchResult:
        """Commit where to begin or to go on, with a record in quarantine for each gap."""
        settled = {at: place for at, place in places.items() if place.must_commit}
        gaps = []
        for at, place in settled.items():
            if place.gap is not None:
                log.warning("feed %s: %s/%d: %s", self.feed.name, *at, place.gap.reason)
                gaps += self._gap_records(place, place.gap, tables.quarantine)
        positions = {at: place.position for at, place in settled.items()}
        return self._commit(None, gaps, settled, positions, tables)

    def _gap_records(self, place: Place, gap: Reject, quarantine: Quarantine) -> list[Reject]:
        """Return the record of a gap, if it is not there yet: at the first offset without a reject.

        Rejects of a batch that did not get in may lie where the gap begins.
        """
        where = TopicPartition(gap.source, gap.partition)
        recorded = quarantine.positions(self.feed.name, where, gap.position, gaps=True)
        rejected = quarantine.positions(self.feed.name, where, gap.position) - recorded
        first = next(n for n in count(gap.position) if n not in rejected)
        if where in place.facts:  # the former address ends after the record
            place.facts[where] = first + 1
        elif first >= place.position:
            return []  # all that is gone had been rejected
        return [] if first in recorded else [gap._replace(position=first)]

    def _land_batch(
        self,
        messages: list[Any],
        moved: Mapping[TopicPartition, int],
        places: Mapping[TopicPartition, Place],
        handled: Handled,
        tables: Tables,
    ) -> BatchResult:
        names = {at: p.address.topic for at, p in places.items() if p.address.topic != at.topic}
        accepted, rejected = decode(messages, self._check_value, handled, names, self.decoder)
        return self._commit(accepted, rejected, places, moved, tables)

    def _commit(
        self,
        accepted: pa.RecordBatch | None,
        rejected: list[Reject],
        places: Mapping[TopicPartition, Place],
        reached: Mapping[TopicPartition, int],
        tables: Tables,
    ) -> BatchResult:
        """Commit rows, rejects, and the position that each partition has reached."""
        offsets: dict[TopicPartition, int] = {}
        for at, position in reached.items():
            offsets |= {**places[at].facts, places[at].address: position}
        known = {places[at].address: (places[at].landed, places[at].looked_at) for at in reached}
        membership = self._broker.membership
        with (
            tables.turn() if membership is None else tables.in_turn(known),
            tables.batch(tables.bronze.batch_id + 1, offsets) as batch,
        ):
            if accepted is not None:
                batch.add(accepted)
            batch.reject(rejected)
        done = 0
        for at, position in reached.items():
            start = places[at].position if places[at].landed is None else places[at].landed
            done += position - (start or 0)
            places[at].facts.clear()
            places[at].landed = position
        if membership is not None:
            membership.note_landed(reached)
        return replace(batch.result, progress=done)


class _Commits:
    """Commits in a thread, one at a time, so that reading goes on meanwhile."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._under_way: Future[BatchResult] | None = None

    def begin(self, commit: Callable[[], BatchResult]) -> Iterator[BatchResult]:
        """Begin a commit when the one before is done, which is yielded."""
        yield from self.end()
        self._under_way = self._pool.submit(commit)

    def end(self) -> Iterator[BatchResult]:
        """Wait for the commit under way, and yield it."""
        if self._under_way is not None:
            commit, self._under_way = self._under_way, None
            yield commit.result()

    def close(self) -> None:
        """Wait for the commit under way, if nobody did."""
        self._pool.shutdown()


def _ended(messages: list[Any]) -> set[TopicPartition]:
    """Return the partitions that are said to have ended; raise for what else the client says."""
    ended = set()
    for message in messages:
        at, error = TopicPartition(message.topic(), message.partition()), message.error()
        if error is None:
            continue
        if error.code() == KafkaError._PARTITION_EOF:
            ended.add(at)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise ConflictError(f"{at.topic}/{at.partition}: {error.str()}")
        else:
            raise FeedError(f"{at.topic}/{at.partition}: {error.str()}")
    return ended


def _are_reached(consumer: Consumer, ends: Mapping[TopicPartition, int]) -> bool:
    """Tell whether all was read; the broker itself may take a while to say so."""
    positions = _positions(consumer, ends)
    return all(positions.get(at, -1) >= end for at, end in ends.items())


def _lags(consumer: Consumer, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Return how far each position is from the end that the last fetch showed."""
    lags = {}
    for at, position in positions.items():
        _, high = consumer.get_watermark_offsets(KafkaPartition(*at), cached=True)
        if high >= 0:
            lags[at] = max(0, high - position)
    return lags


def _positions(consumer: Consumer, at: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the offsets that the consumer would read next, where it has read at all."""
    found = consumer.position([KafkaPartition(*key) for key in at])
    return {
        TopicPartition(p.topic, p.partition): p.offset for p in found if p.offset > OFFSET_INVALID
    }
