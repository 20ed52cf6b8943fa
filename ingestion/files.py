"""Feeds of files: discovery, plans, and landing a plan exactly once.

A file is landed if and only if it stands in a plan of the ledger whose batch id is not above that
of the bronze table. So a plan above it is landed (again) as it was written, before anything new.
"""

# pyarrow's types take parameters for the type checker only, not when the module runs.
from __future__ import annotations

import logging
import secrets
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from ingestion.bronze import (
    LEDGER,
    MAX_CONFLICTS,
    BatchInProgress,
    BatchResult,
    Bronze,
    LandedFile,
    Tables,
    TopicPartition,
)
from ingestion.config import Feed, FileOptions
from ingestion.errors import ConflictError, FeedError
from ingestion.formats import Chunk, read_records
from ingestion.ledger import LOOKUP, FileState, Ledger
from ingestion.locations import wait_for_lock
from ingestion.records import (
    LAST_MILLISECOND,
    ROW_SCHEMA,
    TIMESTAMP_TYPE,
    Headers,
    Reject,
    as_text,
    headers_array,
)
from ingestion.storage import storage

log = logging.getLogger(__name__)

# How long a batch of another process, such as a back-fill or a replay, is waited for.
LOCK_SECONDS = 60.0
VANISHED = "has vanished"


class FileUnusableError(Exception):
    """A planned file is not what was planned any more, or cannot be read at all."""

    def __init__(self, state: FileState, problem: str, is_fault: bool) -> None:
        """`is_fault`: a person must do something, such as give a permission."""
        super().__init__(f"{state.path}: {problem}")
        self.state, self.problem, self.is_fault = state, problem, is_fault


class FileSource:
    """One feed of files."""

    def __init__(self, feed: Feed, options: FileOptions, state_directory: Path) -> None:
        """Take the settings; nothing is opened or written before `land`."""
        self.feed, self.options, self._state = feed, options, state_directory
        self._storage = storage(options.path)
        self._faults: list[str] = []

    def check(self) -> None:
        """Raise ConfigError where the files cannot be listed."""
        if fault := self._storage.fault():
            raise self.feed.error("files.path", fault)

    def close(self) -> None:
        """Nothing is kept open."""

    def land(self, tables: Tables) -> Iterator[BatchResult]:
        """Land what was planned and did not get in, then every new file; yield each batch.

        Raise FeedError when all is done if some file could not be read.
        """
        found = yield from self._land_group(None, tables)
        for group in self._group(found):
            # Between two batches others may land: a back-fill, a replay, another machine.
            yield from self._land_group(group, tables)
        if self._faults:
            more = f" (and {len(self._faults) - 1} more)" if len(self._faults) > 1 else ""
            raise FeedError(f"not landed: {self._faults[0]}{more}")

    def _land_group(
        self, group: list[FileState] | None, tables: Tables
    ) -> Generator[BatchResult, None, list[FileState]]:
        """Land what is unfinished, and those of some files that are still new, as one batch.

        Who was overtaken by another commit does it again. With None return the new files instead.
        """
        for conflict in range(1, MAX_CONFLICTS + 1):
            try:
                with self._turn(tables) as ledger:
                    yield from self._land_unfinished(ledger, tables)
                    if group is None:
                        return self._new_files(ledger, tables.clock())
                    if files := self._still_new(ledger, group):
                        batch_id = tables.bronze.batch_id + 1
                        ledger.plan(self.feed.name, batch_id, files)
                        yield from self._land_plan(ledger, batch_id, tables)
                break
            except ConflictError as error:
                if conflict == MAX_CONFLICTS:
                    raise
                log.info("feed %s: %s; doing the batch again", self.feed.name, error)
        return []

    @contextmanager
    def between_batches(self, tables: Tables) -> Iterator[Mapping[TopicPartition, int]]:
        """Hold this feed while no batch of it is under way; what was planned is landed first.

        Who commits within the block, once, does so under the next batch id, and together with what
        is yielded. Otherwise a plan would count as landed, or the ledger as lost.
        """
        name = self.feed.name
        with self._turn(tables) as ledger:
            for batch in self._land_unfinished(ledger, tables):
                log.warning("feed %s: batch %d was unfinished, and is now", name, batch.batch_id)
            batch_id = tables.bronze.batch_id + 1
            owner = self._claim(ledger, batch_id, tables)
            ledger.rebuild(name, batch_id, ())
            yield {LEDGER: owner}

    def landed(
        self, max_batch_id: int, since: datetime | None, until: datetime | None
    ) -> Iterator[FileState]:
        """Yield files, in the state that was landed last, that were modified since and before."""
        name, after = self.feed.name, ""
        times = _nanoseconds(since, 0), _nanoseconds(until, 2**63 - 1)
        while True:
            # Not held open: a reader of the ledger would keep a run from writing to it.
            with self._existing_ledger() as ledger:
                page = ledger.landed(name, max_batch_id, *times, after) if ledger else []
            yield from page
            if len(page) < LOOKUP:
                return
            after = page[-1].path

    def lag(self, bronze: Bronze) -> dict[str, int]:
        """Return how many files, with how many bytes, are not landed yet."""
        self.check()
        with self._existing_ledger() as ledger:
            waiting = list(self._unplanned(ledger))
            if ledger:
                for batch_id in ledger.planned_batches(self.feed.name, bronze.batch_id):
                    waiting += ledger.files(self.feed.name, batch_id)
        return {"files": len(waiting), "bytes": sum(f.size for f in waiting)}

    def columns(self) -> dict[str, int]:
        """Return the columns that were seen in the files, each with its first batch."""
        with self._existing_ledger() as ledger:
            return ledger.columns(self.feed.name) if ledger else {}

    @contextmanager
    def _existing_ledger(self) -> Iterator[Ledger | None]:
        """Open the ledger if there is one: to look at a feed writes nothing."""
        path = self._state / "ledger.sqlite"
        ledger = Ledger(path) if path.exists() else None
        try:
            yield ledger
        finally:
            if ledger:
                ledger.close()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process from planning this feed; the lock ends with the process."""
        self._state.mkdir(parents=True, exist_ok=True)
        path = self._state / f"{self.feed.name}.lock"
        with path.open("w") as file:
            if not wait_for_lock(file.fileno(), LOCK_SECONDS):
                raise FeedError(f"another process is landing this feed (it holds {path})")
            yield

    @contextmanager
    def _turn(self, tables: Tables) -> Iterator[Ledger]:
        """Plan and land within this block, as the only one."""
        with self.lock(), closing(Ledger(self._state / "ledger.sqlite")) as ledger:
            tables.refresh()  # what was committed before the lock was ours
            self._repair(ledger, tables)
            yield ledger

    def _repair(self, ledger: Ledger, tables: Tables) -> None:
        """Rebuild the ledger where the tables know of batches that it does not.

        It was lost, or another machine with a ledger of its own has landed the feed.
        """
        name, bronze, quarantine = self.feed.name, tables.bronze, tables.quarantine
        last = bronze.next_offset(LEDGER)
        highest = max(last or 0, quarantine.next_offset(name, LEDGER))
        if (
            ledger.continues(name, last)
            and ledger.last_batch(name) >= bronze.batch_id
            and (ledger.owner_id(name) or 0) >= highest
        ):
            return
        ledger.take_over(name, highest + 1 + secrets.randbelow(2**40), last)
        if not bronze.batch_id:
            return
        log.warning(
            "feed %s: the ledger does not know batch %d of bronze; rebuilding it from the tables",
            name,
            bronze.batch_id,
        )
        landed = bronze.landed_files("true", bronze.batch_id)
        rejected = quarantine.landed_files(f"feed = '{name}'", bronze.batch_id)
        ledger.rebuild(name, bronze.batch_id, chain(landed, rejected))
        if self.feed.retain_days:
            self._count_as_landed(ledger, bronze.batch_id, tables.clock())

    def _count_as_landed(self, ledger: Ledger, batch_id: int, now: datetime) -> None:
        """Files whose rows may have been deleted for their age are not landed a second time."""
        newest_ns = (now - timedelta(days=self.feed.retain_days or 0)).timestamp() * 1e9
        old = [f for f in self._unplanned(ledger) if f.version == 0 and f.mtime_ns < newest_ns]
        ledger.rebuild(self.feed.name, batch_id, (LandedFile(*f, batch_id) for f in old))
        log.warning(
            "feed %s: %d files older than retain_days count as landed", self.feed.name, len(old)
        )

    # --- discovery ------------------------------------------------------------------------------

    def _new_files(self, ledger: Ledger, now: datetime) -> list[FileState]:
        """Return what is to be planned, oldest first: arrival order is what settles ties later."""
        settled_ns = int((now.timestamp() - self.options.settle_seconds) * 1e9)
        found = self._unplanned(ledger, report=True)
        if self.options.settle_seconds:
            found = (state for state in found if state.mtime_ns <= settled_ns)
        return sorted(found, key=lambda f: (f.mtime_ns, f.path))

    def _unplanned(self, ledger: Ledger | None, *, report: bool = False) -> Iterator[FileState]:
        """Yield files that were never planned or, as the setting asks, not in their new state.

        Only those are held in memory, however many files there are.
        """
        states = self._storage.find(self.options.glob, self._faults.append)
        while part := list(islice(states, LOOKUP)):
            known = ledger.known(self.feed.name, [f.path for f in part]) if ledger else {}
            for state in part:
                planned = known.get(state.path)
                if planned is None:
                    if self._has_marker(state):
                        yield state
                elif planned[:3] == state[:3]:
                    continue
                elif self.options.on_change == "land_again":
                    yield state._replace(version=planned.version + 1)
                elif report and ledger and ledger.report_change(self.feed.name, state):
                    log.warning(
                        "feed %s: %s changed after it was landed; the change is not landed",
                        self.feed.name,
                        state.path,
                    )

    def _still_new(self, ledger: Ledger, files: list[FileState]) -> list[FileState]:
        """Leave out what another process has planned since."""
        known = ledger.known(self.feed.name, [f.path for f in files])
        return [f for f in files if f.path not in known or known[f.path].version < f.version]

    def _has_marker(self, state: FileState) -> bool:
        """Tell whether the marker stands beside a file, if one is asked for."""
        marker = self.options.marker
        folder, _, name = state.path.rpartition("/")
        if not marker:
            return True
        return name != marker and self._storage.exists(f"{folder}/{marker.replace('*', name)}")

    def _group(self, files: list[FileState]) -> Iterator[list[FileState]]:
        """Split files into batches; a file larger than a batch is a batch."""
        group: list[FileState] = []
        size = 0
        for file in files:
            if group and (
                len(group) >= self.options.batch_files
                or size + file.size > self.options.batch_bytes
            ):
                yield group
                group, size = [], 0
            group.append(file)
            size += file.size
        if group:
            yield group

    # --- landing --------------------------------------------------------------------------------

    def _land_unfinished(self, ledger: Ledger, tables: Tables) -> Iterator[BatchResult]:
        """Land what was planned and did not get in."""
        for batch_id in ledger.planned_batches(self.feed.name, tables.bronze.batch_id):
            yield from self._land_plan(ledger, batch_id, tables)

    def _land_plan(self, ledger: Ledger, batch_id: int, tables: Tables) -> Iterator[BatchResult]:
        """Land a plan; files that are not as planned are taken out, to be planned anew."""
        while files := ledger.files(self.feed.name, batch_id):
            owner = {LEDGER: ledger.owner_id(self.feed.name) or 0}
            try:
                with tables.batch(batch_id, owner) as batch:
                    columns = {file.path: self._read(file, batch) for file in files}
                    # Not before it was read: another machine may land meanwhile.
                    self._claim(ledger, batch_id, tables)
                self._report_columns(ledger, batch_id, columns)
                yield replace(batch.result, progress=len(files))
                return
            except FileUnusableError as error:
                log.warning("feed %s: %s; not landed now", self.feed.name, error)
                if error.is_fault:
                    self._faults.append(str(error))
                ledger.unplan(self.feed.name, error.state)

    def _claim(self, ledger: Ledger, batch_id: int, tables: Tables) -> int:
        """Make sure that no other machine commits; return the number under which this one does.

        What an earlier try of the batch rejected is taken out: it ended between the two commits,
        here or on another machine, and everything is judged again.
        """
        name = self.feed.name
        owner = ledger.owner_id(name) or 0
        if not ledger.continues(name, tables.bronze.next_offset(LEDGER)):
            raise ConflictError("another machine has claimed the feed")
        if withdrawn := tables.claim(owner, batch_id):
            log.warning(
                "feed %s: batch %d was not completed; its %d rejected records are judged again",
                name,
                batch_id,
                withdrawn,
            )
        return owner

    def _report_columns(
        self, ledger: Ledger, batch_id: int, found: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Keep and report columns that are new, and report files that lack known ones."""
        known = [*ledger.columns(self.feed.name), *self.options.columns]
        new = {name: path for path, names in found.items() for name in names if name not in known}
        ledger.add_columns(self.feed.name, batch_id, new)
        if not known:
            return  # the first batch says what there is
        for name, path in new.items():
            log.warning("feed %s: new column '%s' in %s", self.feed.name, name, path)
        if self.feed.format in ("ndjson", "json_document"):
            return  # an object leaves out what it has no value for
        lacking = {p: [k for k in known if k not in names] for p, names in found.items() if names}
        for names in dict.fromkeys(tuple(names) for names in lacking.values() if names):
            paths = [path for path, lacks in lacking.items() if tuple(lacks) == names]
            log.warning(
                "feed %s: %d files lack the known columns %s, the first is %s",
                self.feed.name,
                len(paths),
                ", ".join(names),
                paths[0],
            )

    def _read(self, file: FileState, batch: BatchInProgress) -> tuple[str, ...]:
        """Read one file whole, and return the columns that were seen in it."""
        columns: tuple[str, ...] = ()
        for rows, rejects, columns in self.read(file):  # noqa: B007 - the last ones are all
            batch.add(rows)
            batch.reject(rejects)
        return columns

    def read(
        self, file: FileState
    ) -> Iterator[tuple[pa.RecordBatch, list[Reject], tuple[str, ...]]]:
        """Yield the rows and rejects of a file by chunks, with the columns that were seen so far.

        Raise FileUnusableError unless it is the planned one, before the first and after the last.
        """
        headers: Headers = [
            ("size", str(file.size)),
            ("mtime_ns", str(file.mtime_ns)),
            ("format", self.feed.format),
        ]
        modified_ms = file.mtime_ns // 1_000_000
        shared = _SharedColumns(file, headers)
        with self.open(file) as stream:
            for chunk in self._chunks(stream, file.path):
                rejects = _rejects(file, headers, modified_ms, chunk)
                yield shared.rows(chunk), rejects, chunk.columns

    @contextmanager
    def open(self, file: FileState) -> Iterator[BinaryIO]:
        """Open a file. Raise FileUnusableError unless it is the planned one, before and after."""
        try:
            with self._storage.open(file.path) as stream:
                self._expect(file, stream)
                yield stream
                self._expect(file, stream)
        except FileNotFoundError:
            raise FileUnusableError(file, VANISHED, is_fault=False) from None
        except OSError as error:
            problem = error.strerror or str(error)
            raise FileUnusableError(file, problem, is_fault=True) from error

    def _expect(self, file: FileState, stream: BinaryIO) -> None:
        if self._storage.facts(file.path, stream) != (file.size, file.mtime_ns):
            raise FileUnusableError(file, "has changed since it was planned", is_fault=False)

    def _chunks(self, stream: BinaryIO, name: str) -> Iterator[Chunk]:
        return read_records(stream, name, self.feed.format, self.options, self.feed.key)


def _nanoseconds(moment: datetime | None, default: int) -> int:
    """Return a time as nanoseconds since 1970, without the digits that a float loses."""
    if moment is None:
        return default
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


class _SharedColumns:
    """What all records of a file share, built once and cut to the length of each chunk."""

    def __init__(self, file: FileState, headers: Headers) -> None:
        milliseconds = file.mtime_ns // 1_000_000
        modified_us = milliseconds * 1000 if 0 <= milliseconds < LAST_MILLISECOND else None
        self._columns: list[pa.Array[Any]] = [
            pa.array([file.path], type=pa.string()),
            pa.array([file.version], type=pa.int32()),
            headers_array([headers]),
            pa.array([modified_us], type=TIMESTAMP_TYPE),
        ]

    def rows(self, chunk: Chunk) -> pa.RecordBatch:
        """Return the accepted records of a chunk."""
        count = len(chunk.positions)
        if len(self._columns[0]) < count:
            first = pa.array([0] * count, type=pa.int32())
            self._columns = [column.take(first) for column in self._columns]
        source, partition, headers, timestamp = (c.slice(0, count) for c in self._columns)
        columns = [source, partition, chunk.positions, chunk.keys, chunk.values, headers, timestamp]
        return pa.RecordBatch.from_arrays(columns, schema=ROW_SCHEMA)


def _rejects(file: FileState, headers: Headers, modified_ms: int, chunk: Chunk) -> list[Reject]:
    result = []
    for position, original, reason in chunk.rejects:
        value, encoding = as_text(original, "value")
        result.append(
            Reject(
                file.path,
                file.version,
                position,
                None,
                value,
                headers + encoding,
                modified_ms,
                reason,
            )
        )
    return result
