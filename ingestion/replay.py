"""`ingest replay`: read an interval of a source again, and land what stands in neither table.

Progress is not moved: this is for rows that were deleted, and for history before a feed's start.
Records are collected, looked up, and committed with the handles that they were looked up with.
Every commit raises a number in both tables, by which a writer that was overtaken knows whether it
was by the live feed, which lands other records, or by a replay, so that it has to look again.
"""

# pyarrow's types take parameters for the type checker only, not when the module runs.
from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import orjson
import pyarrow as pa

from ingestion.broker import Broker
from ingestion.bronze import (
    MAX_CONFLICTS,
    REPLAY,
    Clock,
    Tables,
    TopicPartition,
)
from ingestion.checks import ValueCheck
from ingestion.cli import set_up_logging
from ingestion.config import Feed, KafkaOptions, load_feeds
from ingestion.errors import ConfigError, ConflictError, FeedError
from ingestion.files import VANISHED, FileSource, FileUnusableError
from ingestion.kafka import KafkaSource
from ingestion.ledger import FileState
from ingestion.locations import Root, state_folder, wait_for_lock
from ingestion.messages import decode
from ingestion.options import environment, feeds_option, json_option, lakehouse_option
from ingestion.places import address_of, find_gap, first_key, identity_key, start_offset
from ingestion.records import REJECT_SCHEMA, ROW_SCHEMA, Reject, reject_rows
from ingestion.runner import describe

log = logging.getLogger(__name__)

# A commit of records of files, roughly.
COMMIT_ROWS, COMMIT_BYTES = 100_000, 64 * 1024 * 1024
# Chunks of files in one commit: a statement names all of their files.
COMMIT_PARTS = 500

# Where a record stands: source, partition, position.
Address = tuple[str, int, int]
# A time, or the offset in every partition; None: as far as there is something.
Bound = datetime | int | None
# Within it a batch may be committed, together with what it gives.
Turn = Callable[[], AbstractContextManager[Mapping[TopicPartition, int]]]


class Interval(NamedTuple):
    """What to read again: from `start` on, up to but not including `end`."""

    start: Bound = None
    end: Bound = None


@dataclass
class Replayed:
    """What a replay did with the records of its interval.

    `gone`: offsets of the interval below the first that the broker holds. `changed`, `missing`:
    files that are not in the state any more in which they were landed, or not there.
    """

    feed: str
    landed: int = 0
    rejected: int = 0
    already_there: int = 0
    gone: int = 0
    changed: int = 0
    missing: int = 0


def replay(feed: Feed, interval: Interval, lakehouse: Root, clock: Clock) -> Replayed:
    """Land the records of an interval whose address is in neither table.

    Raise ConfigError, with nothing written, where the source cannot be read, and FeedError while
    another replay of the feed is running on this machine.
    """
    start, end = interval
    state = state_folder(lakehouse)
    if isinstance(feed.source, KafkaOptions):
        # The consumer group shares out what is new, so this is no member of it.
        with closing(KafkaSource(feed, replace(feed.source, group=""))) as source:
            broker = source.connect()
            with alone(feed.name, state):
                tables = Tables(lakehouse, feed.name, clock)
                landing = Landing(tables, lambda: in_turn(tables), source.options)
                for at in source.partitions:
                    _replay_partition(at, interval, source, broker, landing)
                landing.flush()
                return landing.done
    if isinstance(start, int) or isinstance(end, int):
        raise feed.error("--from, --to", "files have no offsets; give times")
    files = FileSource(feed, feed.source, state)
    files.check()
    with alone(feed.name, state):
        tables = Tables(lakehouse, feed.name, clock)
        landing = Landing(tables, lambda: files.between_batches(tables))
        with files.between_batches(tables):
            last = tables.bronze.batch_id
        replay_files(files.landed(last, start, end), files, landing)
        return landing.done


@contextmanager
def alone(feed: str, state: Path) -> Iterator[None]:
    """Keep a second replay of a feed from starting on this machine."""
    state.mkdir(parents=True, exist_ok=True)
    path = state / f"{feed}.replay"
    with path.open("w") as file:
        if not wait_for_lock(file.fileno(), 0):
            raise FeedError(f"another replay of this feed is running (it holds {path})")
        yield


@contextmanager
def in_turn(tables: Tables) -> Iterator[Mapping[TopicPartition, int]]:
    """Commit within this block, for a Kafka feed."""
    with tables.turn():
        yield {}


class Landing:
    """Collects records that were read again, and lands those that are in neither table."""

    def __init__(self, tables: Tables, turn: Turn, kafka: KafkaOptions | None = None) -> None:
        """`kafka`: the options of a Kafka feed, which say how large a commit is."""
        self.tables, self._turn = tables, turn
        self.done = Replayed(tables.bronze.feed)
        # Files of which another value was landed under the same number.
        self.differing: set[TopicPartition] = set()
        self._compares = kafka is None
        self._max_rows = kafka.batch_rows if kafka else COMMIT_ROWS
        self._max_bytes = kafka.batch_bytes if kafka else COMMIT_BYTES
        self._parts: list[tuple[TopicPartition, pa.RecordBatch, list[Reject]]] = []
        self._rows = self._bytes = 0

    def add(self, at: TopicPartition, rows: pa.RecordBatch, rejects: list[Reject]) -> bool:
        """Collect records of one source. True: there are enough for a commit."""
        self._parts.append((at, rows, rejects))
        self._rows += rows.num_rows + len(rejects)
        self._bytes += rows.nbytes + sum(len(reject.value or "") for reject in rejects)
        is_full = self._rows >= self._max_rows or self._bytes >= self._max_bytes
        return is_full or len(self._parts) >= COMMIT_PARTS

    def forget(self, at: TopicPartition) -> None:
        """Drop what was collected of a source."""
        self._parts = [part for part in self._parts if part[0] != at]

    def flush(self) -> None:
        """Land what was collected, as far as it is in neither table."""
        rows = pa.Table.from_batches([rows for _, rows, _ in self._parts], ROW_SCHEMA)
        some = [reject_rows(rejects) for _, _, rejects in self._parts if rejects]
        rejects = pa.Table.from_batches(some, REJECT_SCHEMA)
        self._parts, self._rows, self._bytes = [], 0, 0
        if rows.num_rows or rejects.num_rows:
            self._commit(rows, rejects)

    def _commit(self, rows: pa.Table, rejects: pa.Table) -> None:
        """Look up and commit; whoever was overtaken by another commit does it again."""
        tables, bronze, quarantine = self.tables, self.tables.bronze, self.tables.quarantine
        seen: tuple[int, int] | None = None
        new, bad, rejected = rows, rejects, 0
        for _ in range(MAX_CONFLICTS):
            try:
                with self._turn() as progress:
                    # In this order: what has left the quarantine got into bronze before.
                    quarantine.refresh()
                    bronze.refresh()
                    now = (
                        bronze.next_offset(REPLAY) or 0,
                        quarantine.next_offset(bronze.feed, REPLAY),
                    )
                    if now != seen:
                        found = self._look_up(rows, rejects)
                        rows, rejects = (
                            where(table, lambda a: TopicPartition(*a[:2]) not in self.differing)
                            for table in (rows, rejects)
                        )
                        new, bad = self.select(rows, rejects, *found)
                        seen = now
                    batch_id, offsets = bronze.batch_id + 1, {**progress, REPLAY: max(now) + 1}
                    if bad.num_rows:
                        some = bad.to_batches()
                        quarantine.append(some, bronze.feed, batch_id, offsets, tables.clock())
                        rejected += bad.num_rows
                    if new.num_rows or bad.num_rows:
                        bronze.append(new.to_batches(), batch_id, offsets, tables.clock())
                    self.settle()
            except ConflictError:
                continue
            self.done.landed += new.num_rows
            self.done.rejected += rejected
            self.done.already_there += rows.num_rows + rejects.num_rows - new.num_rows - rejected
            return
        raise FeedError(f"{bronze.path}: {MAX_CONFLICTS} conflicts in a row; try again")

    def select(
        self, rows: pa.Table, rejects: pa.Table, landed: set[Address], rejected: set[Address]
    ) -> tuple[pa.Table, pa.Table]:
        """Return which rows are to be landed, and which rejects go into quarantine.

        `landed` and `rejected`: those of their addresses that stand in bronze, and in quarantine.
        """
        there = landed | rejected
        return where(rows, lambda a: a not in there), where(rejects, lambda a: a not in there)

    def settle(self) -> None:
        """Do what is to be done in the same turn when the rows are in bronze."""

    def _look_up(self, rows: pa.Table, rejects: pa.Table) -> tuple[set[Address], set[Address]]:
        """Return which addresses stand in bronze, and which in quarantine.

        A file of which another value was landed under an address is noted as differing: by the
        settings of now its numbers mean other records, so nothing of it can be landed.
        """
        wanted: dict[Address, str | None] = dict.fromkeys(addresses_of(rejects))
        wanted.update(dict.fromkeys(addresses_of(rows)))
        if self._compares:
            wanted.update(zip(addresses_of(rows), rows.column("value").to_pylist(), strict=True))
        numbers = [position for _, _, position in wanted]
        span = ({source for source, _, _ in wanted}, min(numbers), max(numbers))
        names = "source, partition, position"
        bronze, quarantine = self.tables.bronze, self.tables.quarantine
        landed = set()
        for row in bronze.rows_of(f"{names}, value" if self._compares else names, *span):
            address = _address(row)
            if address in wanted:
                landed.add(address)
                if None not in (row.get("value"), wanted[address]):
                    is_other = row["value"] != wanted[address]
                    if is_other and (at := TopicPartition(*address[:2])) not in self.differing:
                        self.differing.add(at)
                        self.done.changed += 1
                        said = "its records are not those that were landed, by the settings of now"
                        log.warning("feed %s: %s: %s", bronze.feed, at.topic, said)
        found = quarantine.rows_of(names, *span, where=f"feed = '{bronze.feed}'")
        return landed, {address for address in map(_address, found) if address in wanted}


def addresses_of(rows: pa.Table) -> Iterator[Address]:
    """Yield where rows stand."""
    columns = (rows.column(name).to_pylist() for name in ("source", "partition", "position"))
    return zip(*columns, strict=True)


def _address(row: Mapping[str, object]) -> Address:
    return str(row["source"]), int(str(row["partition"])), int(str(row["position"]))


def where(rows: pa.Table, holds: Callable[[Address], bool]) -> pa.Table:
    """Return the rows whose address it holds for."""
    return rows.filter(pa.array(map(holds, addresses_of(rows)), pa.bool_()))


def replay_files(states: Iterable[FileState], source: FileSource, landing: Landing) -> None:
    """Read files that were landed, and land what is missing of them.

    Raise FeedError, when all is done, where one could not be read.
    """
    faults = []
    for file in states:
        at = TopicPartition(file.path, file.version)
        try:
            for rows, rejects, _ in source.read(file):
                if landing.add(at, rows, rejects):
                    with source.open(file):
                        pass  # what was read so far is of this state
                    landing.flush()
                    if at in landing.differing:
                        break
        except FileUnusableError as error:
            landing.forget(at)
            if error.is_fault:
                faults.append(str(error))
            elif error.problem == VANISHED:
                landing.done.missing += 1
            else:
                landing.done.changed += 1
            log.warning("feed %s: %s; not replayed", source.feed.name, error)
    landing.flush()
    if faults:
        raise FeedError(f"{len(faults)} files could not be read, the first is {faults[0]}")


def _replay_partition(
    at: TopicPartition, interval: Interval, source: KafkaSource, broker: Broker, landing: Landing
) -> None:
    """Read an interval of a partition, up to what the live feed has landed of it."""
    bronze, check = landing.tables.bronze, ValueCheck(source.feed.format, source.feed.key)
    address = address_of(at, bronze)
    landed = bronze.next_offset(address)
    if landed is None:
        return
    known_id = bronze.next_offset(identity_key(address)) or broker.topic_ids([at]).get(at.topic)

    def first_offset() -> int:
        """Return the first offset there is; raise where offsets have begun anew."""
        low, high = broker.watermarks(at)
        gap = find_gap(landed, low, high, known_id, broker.topic_ids([at]).get(at.topic))
        if gap is not None and gap.anew:
            raise FeedError(f"{at.topic}/{at.partition}: {gap.reason}; `ingest run` goes first")
        return low

    def offset(bound: Bound, default: int) -> int:
        if not isinstance(bound, datetime):
            return default if bound is None else bound
        return start_offset(bound, at.partition, 0, landed, partial(broker.offset_at, at))

    # What lies below its first offset has landed as the topic's former generation.
    start = max(offset(interval.start, first_offset()), bronze.next_offset(first_key(address)) or 0)
    end = min(offset(interval.end, landed), landed)
    names = {at: address.topic}
    while start < end:
        if start < (low := first_offset()):
            landing.done.gone += min(low, end) - start
            start = low
            continue
        try:
            for reached, messages in source.read_again(at, start, end):
                first_offset()  # what was read before is of the topic that was landed
                if landing.add(address, *decode(messages, check, {}, names, source.decoder)):
                    landing.flush()
                start = reached
        except ConflictError:
            if start >= first_offset():  # nothing was deleted meanwhile
                raise


def _bound(text: str) -> datetime | int:
    """Read a time with its zone or an offset."""
    if text.isdecimal():
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise click.BadParameter(f"'{text}': give an offset, or a time as 2026-03-01T00:00:00Z")
    return time


@click.command("replay")
@click.argument("feed")
@click.option(
    "--from", "start", type=_bound, metavar="TIME|OFFSET", help="[default: what there is]"
)
@click.option("--to", "end", type=_bound, metavar="TIME|OFFSET", help="[default: what is landed]")
@json_option
@feeds_option
@lakehouse_option
def command(
    feed: str,
    start: datetime | int | None,
    end: datetime | int | None,
    as_json: bool,
    feeds_file: Path,
    lakehouse: Root,
) -> None:
    """Read records of FEED again, and land those that are neither landed nor in quarantine.

    For rows that were deleted (by retain_days, or by hand), and for history before a topic's start.
    Each lands under its own address in a new batch, so that the models read it like a late record.
    A second replay lands nothing, and the feed may be landed meanwhile.

    --from and --to are a time with its zone (2026-03-01T00:00:00Z): from the first record that is
    not older, up to but without the first that is not older; of files, by the time of modification.
    For Kafka they may be offsets, of all partitions. What was never landed is left to `ingest run`.

    Said besides: "gone", offsets that the broker does not hold any more; "changed" and "missing",
    files that are not as they were landed. They are not read.

    Exit codes: 0 done (rejected records are in quarantine), 1 it failed (what was landed stays; do
    it again), 2 a wrong setting.
    """
    set_up_logging(verbose=False)
    try:
        (declared,) = load_feeds(feeds_file, environment(lakehouse), [feed])
        done = replay(declared, Interval(start, end), lakehouse, lambda: datetime.now(UTC))
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except Exception as problem:
        log.debug("the replay of %s stopped", feed, exc_info=True)
        click.echo(f"feed '{feed}' failed: {describe(problem)}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(orjson.dumps(asdict(done), option=orjson.OPT_INDENT_2).decode())
        return
    counts = {name.replace("_", " "): n for name, n in asdict(done).items() if name != "feed"}
    always = ("landed", "rejected", "already there")
    click.echo(", ".join(f"{n:,} {name}" for name, n in counts.items() if n or name in always))
