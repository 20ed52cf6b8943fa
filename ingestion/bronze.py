"""The Delta tables: creation, appends with application transactions, and the order of commits.

A handle is kept for as long as a table is used, and a commit goes through the handle whose
transaction versions were read: only then does Delta refuse the second of two racing writers.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from ingestion.errors import ConflictError, FeedError
from ingestion.locations import NewFile, Root, state_folder, under, wait_for_lock
from ingestion.records import (
    BRONZE_SCHEMA,
    QUARANTINE_SCHEMA,
    Reject,
    reject_rows,
    stamp,
)

Clock = Callable[[], datetime]

# The rows of a batch are written in pieces of so much, each a row group.
PIECE_BYTES = 16 * 1024 * 1024
PIECE_ROWS = 64 * 1024
# Columns whose values repeat; to look for repetitions in the others would only take time.
_REPEATED = [
    *("source", "partition", "source_timestamp", "ingested_at", "batch_id", "feed", "reason"),
    *("headers.key_value.key", "headers.key_value.value"),
]
# How often a batch is redone because another process has committed first.
MAX_CONFLICTS = 10

# How long a process waits for others of its machine that commit to the same feed.
TURN_SECONDS = 2.0

# Statistics only where readers prune: they keep a commit small however wide the value is.
_BRONZE_STATISTICS = ("batch_id", "source", "partition", "position")
_QUARANTINE_STATISTICS = ("feed", *_BRONZE_STATISTICS)
# Each commit lists all of the log that is kept, 15 microseconds a file: ten commits a second must
# not pile up for the usual 30 days. Readers need what follows the last checkpoint, no more.
_LOG_RETENTION = "interval 5 minutes"


# The property of a feed's table that says what lands it; no other engine commits to it.
LANDED_BY = "realtime_insights.landed_by"
LOCAL, SPARK = "ingest", "spark"
# Of a table that Spark lands: what its stream goes on from, as JSON.
CLAIM = "realtime_insights.spark"


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


def _settings(statistics: Sequence[str]) -> dict[str, str]:
    return {
        "delta.dataSkippingStatsColumns": ",".join(statistics),
        "delta.logRetentionDuration": _LOG_RETENTION,
    }


# The properties that the tables are made with.
BRONZE_SETTINGS, QUARANTINE_SETTINGS = map(_settings, (_BRONZE_STATISTICS, _QUARANTINE_STATISTICS))
# Of a feed of files, in both tables: the number of the ledger whose plans may be committed. No
# topic is named so.
LEDGER = TopicPartition("#ledger", 0)
# How often records of a feed were replayed, in both tables: raised by every commit that does.
REPLAY = TopicPartition("#replay", 0)


class LandedFile(NamedTuple):
    """A state of a file as the tables know it, with the batch that landed it."""

    path: str
    size: int
    mtime_ns: int
    version: int
    batch_id: int


@dataclass(frozen=True)
class BatchResult:
    """What one batch brought; `bytes` as held in memory, `seconds` from its begin to its commit.

    `progress` counts what is done of what the source has waiting: offsets or files.
    """

    batch_id: int
    landed: int
    rejected: int
    reasons: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0
    progress: int = 0


class Rows:
    """Rows of one batch on their way into a table: written to a Parquet file as they come.

    Nobody sees them before the file is committed. It is written in a thread, so that the next rows
    are read meanwhile; of a batch however large, memory holds two pieces.
    """

    def __init__(
        self,
        table: str,
        schema: pa.Schema,
        statistics: Sequence[str],
        complete: Callable[[pa.RecordBatch], pa.RecordBatch],
    ) -> None:
        """`complete` adds what is known of rows when they are written."""
        self._table, self._schema, self._complete = table, schema, complete
        self._statistics = statistics
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = self._held_rows = 0
        self._file: NewFile | None = None
        self._writer: pq.ParquetWriter | None = None
        self._metadata: list[pq.FileMetaData] = []
        self._pool: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        self.rows = self.bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take some rows."""
        self.rows += batch.num_rows
        self.bytes += batch.nbytes
        self._held.append(batch)
        self._held_bytes += batch.nbytes
        self._held_rows += batch.num_rows
        if self._held_bytes >= PIECE_BYTES or self._held_rows >= PIECE_ROWS:
            piece = self._take()
            self._wait()
            self._pool = self._pool or ThreadPoolExecutor(1)
            self._writing = self._pool.submit(self._write, piece)

    def _take(self) -> pa.RecordBatch:
        """Return what is held as one batch: many small files give many of a few rows."""
        held, self._held = self._held, []
        self._held_bytes = self._held_rows = 0
        if len(held) == 1:
            return held[0]  # to join would copy
        # The stubs do not know it yet.
        piece: pa.RecordBatch = pa.concat_batches(held)  # type: ignore[attr-defined]
        return piece

    def _wait(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, piece: pa.RecordBatch) -> None:
        if self._writer is None:
            self._file = NewFile(self._table, f"part-{uuid4()}.snappy.parquet")
            self._writer = pq.ParquetWriter(
                self._file.stream,
                self._schema,
                compression="snappy",
                use_dictionary=_REPEATED,  # type: ignore[arg-type]  # takes names, too
                write_statistics=list(self._statistics),
                store_schema=False,
                metadata_collector=self._metadata,
            )
        self._writer.write_table(pa.Table.from_batches([self._complete(piece)]))

    def finish(self) -> list[AddAction | RemoveAction]:
        """Write the rest; return what a commit says of the file, if there is any."""
        self._wait()
        if self._held:
            self._write(self._take())
        if self._writer is None or self._file is None:
            return []
        self._writer.close()
        name, size = self._file.name, self._file.finish()
        self._file = None  # it may be the table's from now on
        statistics = orjson.dumps(_statistics(self._metadata[0], self._statistics)).decode()
        return [AddAction(name, size, {}, time.time_ns() // 1_000_000, True, statistics)]

    def close(self) -> None:
        """Forget the rows, and remove the file unless it was to be committed."""
        if self._pool is not None:
            self._pool.shutdown()
        if self._file is not None:
            with suppress(Exception):  # a full disk was said by the write that met it
                if self._writer is not None:
                    self._writer.close()
            self._file.remove()


def _statistics(found: pq.FileMetaData, columns: Sequence[str]) -> dict[str, Any]:
    """Return the statistics of a file as Delta wants them, from those of its row groups."""
    limits: dict[str, dict[str, Any]] = {"minValues": {}, "maxValues": {}}
    indexes = {found.schema.column(i).path: i for i in range(found.num_columns)}
    for name in columns:
        groups: list[Any] = [  # Any: a column may have none, as very long texts do
            found.row_group(group).column(indexes[name]).statistics
            for group in range(found.num_row_groups)
        ]
        if all(group and group.has_min_max for group in groups):
            limits["minValues"][name] = min(group.min for group in groups)
            limits["maxValues"][name] = max(group.max for group in groups)
    return {"numRecords": found.num_rows, **limits, "nullCount": dict.fromkeys(columns, 0)}


class _Table:
    """A Delta table behind one handle."""

    def __init__(self, path: str, schema: pa.Schema, statistics: Sequence[str]) -> None:
        self.path, self._schema, self._statistics = path, schema, statistics
        # Another process has committed between a commit of ours and the sight of it.
        self._is_overtaken = False
        if not DeltaTable.is_deltatable(path):
            try:
                settings = _settings(statistics)
                DeltaTable.create(path, schema, mode="ignore", configuration=settings)
            except CommitFailedError:
                pass  # another process has just created it
        self._handle = DeltaTable(path)

    def refresh(self) -> None:
        """See what other processes have committed."""
        self._is_overtaken = False
        try:
            self._handle.update_incremental()
        except DeltaError:  # the log since this handle's version was cleaned up
            self._handle = DeltaTable(self.path)

    def transaction(self, application: str) -> int | None:
        """Return the version of an application transaction, as this handle saw it."""
        return self._handle.transaction_version(application)

    def _rows(self, complete: Callable[[pa.RecordBatch], pa.RecordBatch]) -> Rows:
        return Rows(self.path, self._schema, self._statistics, complete)

    def claim(self, feed: str, owner: int) -> None:
        """Let only one ledger's batches of a feed of files be committed from now on.

        Raise ConflictError where another one has claimed the feed and this handle does not know it,
        or under a higher number.
        """
        name = _offset_id(feed, LEDGER)
        current = self.transaction(name) or 0
        if current > owner:
            raise ConflictError(f"{self.path}: another machine has claimed feed {feed}")
        if current < owner or self._is_overtaken:
            self._commit(None, {name: owner})

    def _expect_owner(self, feed: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Refuse a batch of a ledger that has not claimed the feed, or has lost it to another."""
        owner = offsets.get(LEDGER)
        if owner is not None and self.transaction(_offset_id(feed, LEDGER)) != owner:
            raise ConflictError(f"{self.path}: another machine has claimed feed {feed}")

    def _commit(self, rows: Rows | None, transactions: Mapping[str, int]) -> None:
        """Append rows and set versions, in one commit or not at all.

        Delta itself accepts a version that goes backwards, so that is refused here.
        """
        for application, version in transactions.items():
            current = self.transaction(application)
            if current is not None and version < current:
                raise FeedError(
                    f"{self.path}: refusing to set {application} back from {current} to {version}"
                )
        if self._is_overtaken:
            raise ConflictError(f"{self.path}: another process has committed")
        try:
            self._handle.create_write_transaction(
                rows.finish() if rows else [],
                "append",
                self._handle.schema(),
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(a, v) for a, v in transactions.items()]
                ),
            )
        except CommitFailedError as error:
            raise ConflictError(f"{self.path}: {error}") from error
        # The handle does not know its own commit yet. Where another one of this feed came right
        # behind it, the handle sees that too; then Delta would no longer refuse what builds on
        # what was known before.
        self.refresh()
        self._is_overtaken = any(self.transaction(a) != v for a, v in transactions.items())

    def _query(self, columns: str, where: str, rest: str = "") -> Iterator[dict[str, object]]:
        """Run a query over this table's rows, in bounded memory."""
        # All texts in `where` are feed names or quoted by literal.
        sql = f"select {columns} from records where {where} {rest}"  # noqa: S608
        for batch in QueryBuilder().register("records", self._handle).execute(sql):
            yield from pa.record_batch(batch).to_pylist()

    def rows_of(
        self, columns: str, sources: Iterable[str], first: int, last: int, where: str = "true"
    ) -> Iterator[dict[str, object]]:
        """Yield columns of the rows of some sources between two positions, both included."""
        names = ", ".join(map(literal, sources))
        among = f"source in ({names}) and position between {first} and {last}"
        return self._query(columns, f"{where} and {among}")

    def landed_files(self, where: str, max_batch_id: int) -> Iterator[LandedFile]:
        """Yield the files of the rows up to a batch: the newest landing of each state."""
        facts = "max(headers['size']) as size, max(headers['mtime_ns']) as mtime_ns"
        rows = self._query(
            f"source, partition, batch_id, {facts}",
            f"{where} and batch_id <= {max_batch_id}",
            "group by source, partition, batch_id order by batch_id",
        )
        for row in rows:
            numbers = (int(str(row[c])) for c in ("size", "mtime_ns", "partition", "batch_id"))
            yield LandedFile(str(row["source"]), *numbers)


class Bronze(_Table):
    """One feed's table of landed records."""

    def __init__(self, lakehouse: Root, feed: str) -> None:
        """Open the feed's table, creating it if need be."""
        super().__init__(under(lakehouse, "bronze", feed), BRONZE_SCHEMA, _BRONZE_STATISTICS)
        self.feed = feed

    @property
    def batch_id(self) -> int:
        """The last batch that is visible; 0 before the first."""
        return self.transaction(f"ingest:{self.feed}") or 0

    @property
    def properties(self) -> Mapping[str, str]:
        """The table's properties, as this handle saw them."""
        return self._handle.metadata().configuration

    @property
    def landed_by(self) -> str:
        """What lands the feed."""
        return self.properties.get(LANDED_BY, LOCAL)

    def expect_engine(self) -> None:
        """Raise FeedError where this engine is not the one that lands the feed."""
        if self.landed_by == SPARK:
            raise FeedError(f"{self.path} is landed by Spark; stop that, then give --take-over")
        if self.landed_by != LOCAL:
            fix = "declare a feed of another name"
            raise FeedError(f"{self.path} is landed by {self.landed_by}; {fix}")

    def take_over(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Go on from these offsets where Spark has landed the feed, then say so in the table."""
        self._commit(None, {_offset_id(self.feed, at): offset for at, offset in offsets.items()})
        self._handle.alter.set_table_properties({LANDED_BY: LOCAL}, raise_if_not_exists=False)
        self.refresh()

    def next_offset(self, at: TopicPartition) -> int | None:
        """Return the offset from which a partition is read on; None if it was never read."""
        return self.transaction(_offset_id(self.feed, at))

    def rows(self, batch_id: int, clock: Clock) -> Rows:
        """Return what takes the rows of a batch."""
        return self._rows(_stamper(batch_id, clock))

    def append(
        self,
        batches: Iterable[pa.RecordBatch],
        batch_id: int,
        offsets: Mapping[TopicPartition, int],
        ingested_at: datetime,
    ) -> None:
        """Write and commit a batch."""
        with closing(self.rows(batch_id, lambda: ingested_at)) as rows:
            for batch in batches:
                rows.add(batch)
            self.commit(rows, batch_id, offsets)

    def commit(self, rows: Rows, batch_id: int, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit a batch with its id and its progress."""
        if batch_id <= self.batch_id:
            raise FeedError(
                f"{self.path}: refusing batch {batch_id}, {self.batch_id} is already visible"
            )
        self._expect_owner(self.feed, offsets)
        progress = {_offset_id(self.feed, at): offset for at, offset in offsets.items()}
        self._commit(rows, {f"ingest:{self.feed}": batch_id, **progress})

    def statistics(self) -> tuple[int, datetime | None]:
        """Return the number of rows, from the log alone, and the time of the last commit (UTC)."""
        actions = pa.table(self._handle.get_add_actions(flatten=True))
        rows = sum(n or 0 for n in actions.column("num_records").to_pylist())
        last = self._handle.history(1)
        # A table that holds no batch has only the commit that created it.
        if not self.batch_id or not last:
            return rows, None
        return rows, datetime.fromtimestamp(last[0]["timestamp"] / 1000, UTC)


class Quarantine(_Table):
    """The one table of rejected records of all feeds."""

    def __init__(self, lakehouse: Root) -> None:
        """Open the table, creating it if need be."""
        path = under(lakehouse, "quarantine")
        super().__init__(path, QUARANTINE_SCHEMA, _QUARANTINE_STATISTICS)

    def batch_id(self, feed: str) -> int:
        """The last batch of a feed that had rejects, whether it got into bronze or not."""
        return self.transaction(f"ingest:{feed}") or 0

    def next_offset(self, feed: str, at: TopicPartition) -> int:
        """Return the offset up to which rejects of a partition may be in the table."""
        return self.transaction(_offset_id(feed, at)) or 0

    def rows(self, feed: str, batch_id: int, clock: Clock) -> Rows:
        """Return what takes the rejects of a batch."""
        return self._rows(_stamper(batch_id, clock, feed))

    def append(
        self,
        batches: Iterable[pa.RecordBatch],
        feed: str,
        batch_id: int,
        offsets: Mapping[TopicPartition, int],
        ingested_at: datetime,
    ) -> None:
        """Write and commit the rejects of a batch."""
        with closing(self.rows(feed, batch_id, lambda: ingested_at)) as rows:
            for batch in batches:
                rows.add(batch)
            self.commit(rows, feed, batch_id, offsets)

    def commit(
        self, rows: Rows, feed: str, batch_id: int, offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Commit the rejects of a batch.

        A batch that is redone may be shorter than it was before a crash; what the table says of
        its progress is an upper bound, so it only ever grows.
        """
        self._expect_owner(feed, offsets)
        transactions = {f"ingest:{feed}": max(batch_id, self.batch_id(feed))}
        for at, offset in offsets.items():
            transactions[_offset_id(feed, at)] = max(offset, self.next_offset(feed, at))
        self._commit(rows, transactions)

    def positions(
        self, feed: str, at: TopicPartition, start: int, *, gaps: bool = False
    ) -> set[int]:
        """Return the offsets from `start` on that are already in the table, or only those of gaps.

        A gap has neither key nor value; every other reject has one of them.
        """
        if self.next_offset(feed, at) <= start:
            return set()
        rows = self._query(
            "position",
            f"feed = '{feed}' and source = {literal(at.topic)}"
            f" and partition = {at.partition} and position >= {start}"
            + (" and key is null and value is null" if gaps else ""),
        )
        return {int(str(row["position"])) for row in rows}

    def withdraw(self, feed: str, batch_id: int, owner: int) -> int:
        """Take out the rejects of a batch that never got into bronze; return their number.

        `owner` has claimed the feed.
        """
        if self.batch_id(feed) < batch_id:
            return 0
        self._expect_owner(feed, {LEDGER: owner})
        claim = CommitProperties(app_transactions=[Transaction(_offset_id(feed, LEDGER), owner)])
        try:
            done = self._handle.delete(
                f"feed = '{feed}' and batch_id = {batch_id}", commit_properties=claim
            )
        except CommitFailedError as error:
            raise ConflictError(f"{self.path}: {error}") from error
        return int(done["num_deleted_rows"] or 0)

    def counts(self) -> Counter[str]:
        """Return the number of rejected records per feed."""
        rows = self._query("feed, count(*) as n", "true", "group by feed")
        return Counter({str(row["feed"]): int(str(row["n"])) for row in rows})


class Tables:
    """Where a feed lands: its bronze table, the quarantine, and the clock that stamps rows."""

    def __init__(self, lakehouse: Root, feed: str, clock: Clock) -> None:
        """Open both tables, creating them if need be."""
        self.bronze, self.quarantine = Bronze(lakehouse, feed), Quarantine(lakehouse)
        self.clock = clock
        self._state = state_folder(lakehouse)
        self._patience = TURN_SECONDS

    def refresh(self) -> None:
        """See what other processes have committed. Raise FeedError where Spark lands the feed."""
        self.bronze.refresh()
        self.quarantine.refresh()
        self.bronze.expect_engine()

    @contextmanager
    def batch(
        self, batch_id: int, offsets: Mapping[TopicPartition, int]
    ) -> Iterator["BatchInProgress"]:
        """Take rows and rejects within this block; commit all of them at its end, or nothing.

        Rejects are committed first: progress in bronze means that all of the batch is in.
        """
        with closing(BatchInProgress(self, batch_id, offsets)) as batch:
            yield batch
            batch.commit()

    def claim(self, owner: int, batch_id: int) -> int:
        """Make a ledger the only one whose batches of a feed of files can be committed.

        In this order: what another one has under way gets into bronze no more, then into quarantine
        no more, and what it has there of the next batch is taken out. Return how much that was.
        """
        self.bronze.claim(self.bronze.feed, owner)
        self.quarantine.claim(self.bronze.feed, owner)
        return self.quarantine.withdraw(self.bronze.feed, batch_id, owner)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Commit within this block where other processes may commit to the same feed.

        Those of one machine wait for each other, a while: of two commits at once the second would
        be refused, so a turn only saves work.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        with (self._state / f"{self.bronze.feed}.commit").open("w") as turn:
            # A process that hangs with its turn is waited for once, not before every commit.
            has_turn = wait_for_lock(turn.fileno(), self._patience)
            self._patience = TURN_SECONDS if has_turn else 0.0
            yield

    @contextmanager
    def in_turn(self, known: Mapping[TopicPartition, tuple[int | None, int]]) -> Iterator[None]:
        """Commit in turn where several processes land parts of one feed.

        `known` is what was landed of each partition, and how far the quarantine was looked at.
        Raise ConflictError if another process has landed or rejected more since.
        """
        with self.turn():
            self.refresh()
            for at, (landed, looked_at) in known.items():
                rejected = self.quarantine.next_offset(self.bronze.feed, at)
                is_ahead = rejected > max(landed or 0, looked_at)
                if self.bronze.next_offset(at) != landed or is_ahead:
                    raise ConflictError(f"{at.topic}/{at.partition} was read by another process")
            yield


class BatchInProgress:
    """A batch between reading and committing."""

    def __init__(
        self, tables: Tables, batch_id: int, offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Nothing is written before there are rows."""
        self._tables, self._batch_id, self._offsets = tables, batch_id, offsets
        self._began = time.monotonic()
        feed = tables.bronze.feed
        self._rows = tables.bronze.rows(batch_id, tables.clock)
        self._rejects = tables.quarantine.rows(feed, batch_id, tables.clock)
        self._reasons: Counter[str] = Counter()

    def add(self, rows: pa.RecordBatch) -> None:
        """Take accepted rows."""
        if rows.num_rows:
            self._rows.add(rows)

    def reject(self, rejects: Sequence[Reject]) -> None:
        """Take rejected records."""
        if rejects:
            self._reasons.update(reject.reason for reject in rejects)
            self._rejects.add(reject_rows(rejects))

    def commit(self) -> None:
        """Commit the rejects, then the rows."""
        self._tables.bronze.expect_engine()
        self._commit_rejects()
        self._tables.bronze.commit(self._rows, self._batch_id, self._offsets)

    def _commit_rejects(self) -> None:
        if self._rejects.rows:
            feed = self._tables.bronze.feed
            self._tables.quarantine.commit(self._rejects, feed, self._batch_id, self._offsets)

    def close(self) -> None:
        """Forget what was not committed."""
        self._rows.close()
        self._rejects.close()

    @property
    def result(self) -> BatchResult:
        """What was committed."""
        return BatchResult(
            self._batch_id,
            self._rows.rows,
            self._rejects.rows,
            self._reasons,
            self._rows.bytes + self._rejects.bytes,
            time.monotonic() - self._began,
        )


def _stamper(
    batch_id: int, clock: Clock, feed: str | None = None
) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Return what completes the rows of a batch; all of them with the time of the first."""
    now = cache(clock)
    return lambda batch: stamp(batch, batch_id, now(), feed)


def _offset_id(feed: str, at: TopicPartition) -> str:
    return f"ingest:{feed}:{at.topic}:{at.partition}"


def literal(text: str) -> str:
    """Return a text as one of SQL."""
    return "'" + text.replace("'", "''") + "'"
