"""The ledger of file feeds: which file, in which size and state, is planned in which batch.

A plan is durable before its batch is landed. Whether it *was* landed is not decided here, but by
the batch id in the bronze table: the ledger is an index, and is rebuilt from the tables if lost.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from ingestion.bronze import LandedFile

_TABLES = """
create table if not exists planned_state (
    feed text not null,
    path text not null,
    size integer not null,
    mtime_ns integer not null,
    version integer not null,
    batch_id integer not null,
    primary key (feed, path, version)
) without rowid;
create index if not exists planned_state_batch on planned_state (feed, batch_id);
create table if not exists feed_column (
    feed text not null,
    name text not null,
    batch_id integer not null,
    primary key (feed, name)
) without rowid;
create table if not exists owner (
    feed text primary key,
    id integer not null,
    predecessor integer
) without rowid;
create table if not exists reported_change (
    feed text not null,
    path text not null,
    size integer not null,
    mtime_ns integer not null,
    primary key (feed, path)
) without rowid;
"""
# Stands for the batches that a rebuild found, also those that had only empty files.
_REBUILT = ""
# How many paths `known` looks up in one statement.
LOOKUP = 500
# JSON objects may have names that are data; no feed has so many columns.
_MAX_COLUMNS = 1_000


class FileState(NamedTuple):
    """A file and what tells one state of it from the next.

    `version` counts the states that are landed, from 0; it is their `partition` in the tables.
    """

    path: str
    size: int
    mtime_ns: int
    version: int = 0


class Ledger:
    """SQLite file; one connection, used by one thread."""

    def __init__(self, path: Path) -> None:
        """Open the ledger, creating it if need be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def plan(self, feed: str, batch_id: int, files: Iterable[FileState]) -> None:
        """Write the plan of a batch; it is on disk when this returns."""
        rows = ((feed, *f, batch_id) for f in files)
        self._insert("insert into planned_state values (?, ?, ?, ?, ?, ?)", rows)

    def unplan(self, feed: str, state: FileState) -> None:
        """Take one file out of its plan."""
        sql = "delete from planned_state where feed = ? and path = ? and version = ?"
        self._db.execute(sql, (feed, state.path, state.version))

    def planned_batches(self, feed: str, above: int) -> list[int]:
        """Return the planned batches above a batch id, in order."""
        sql = (
            "select distinct batch_id from planned_state where feed = ? and batch_id > ? order by 1"
        )
        return [row[0] for row in self._db.execute(sql, (feed, above))]

    def last_batch(self, feed: str) -> int:
        """Return the highest batch that was ever planned and not taken back; 0 if none."""
        sql = "select coalesce(max(batch_id), 0) from planned_state where feed = ?"
        return int(self._db.execute(sql, (feed,)).fetchone()[0])

    def files(self, feed: str, batch_id: int) -> list[FileState]:
        """Return the files of a plan, in the order in which they are landed."""
        sql = (
            "select path, size, mtime_ns, version from planned_state"
            " where feed = ? and batch_id = ? and path <> '' order by mtime_ns, path"
        )
        return [FileState(*row) for row in self._db.execute(sql, (feed, batch_id))]

    def known(self, feed: str, paths: Sequence[str]) -> dict[str, FileState]:
        """Return those of the paths that are planned, in their last state."""
        found: dict[str, FileState] = {}
        for i in range(0, len(paths), LOOKUP):
            part = paths[i : i + LOOKUP]
            marks = ",".join("?" * len(part))
            columns, where = "path, size, mtime_ns", f"feed = ? and path in ({marks})"
            # Only question marks are put into the text; size and time are of the highest version.
            sql = f"select {columns}, max(version) from planned_state where {where} group by path"  # noqa: S608
            found.update((row[0], FileState(*row)) for row in self._db.execute(sql, (feed, *part)))
        return found

    def landed(
        self, feed: str, max_batch_id: int, since_ns: int, until_ns: int, after: str
    ) -> list[FileState]:
        """Return the next LOOKUP files by path whose last landed state was modified in a time."""
        sql = (
            "select path, size, mtime_ns, max(version) from planned_state"
            " where feed = ? and path > ? and batch_id <= ? group by path"
            " having mtime_ns >= ? and mtime_ns < ? order by path limit ?"
        )
        given = (feed, after, max_batch_id, since_ns, until_ns, LOOKUP)
        return [FileState(*row) for row in self._db.execute(sql, given)]

    def report_change(self, feed: str, state: FileState) -> bool:
        """Note that a landed file is now in this state; True the first time only."""
        sql = (
            "select 1 from reported_change"
            " where feed = ? and path = ? and size = ? and mtime_ns = ?"
        )
        if self._db.execute(sql, (feed, *state[:3])).fetchone():
            return False
        self._db.execute("replace into reported_change values (?, ?, ?, ?)", (feed, *state[:3]))
        return True

    def columns(self, feed: str) -> dict[str, int]:
        """Return the columns that were seen in a feed's files, each with its first batch."""
        sql = "select name, batch_id from feed_column where feed = ? order by batch_id, name"
        return dict(self._db.execute(sql, (feed,)).fetchall())

    def add_columns(self, feed: str, batch_id: int, names: Iterable[str]) -> None:
        """Keep columns that were first seen in a batch, up to a limit."""
        room = _MAX_COLUMNS - len(self.columns(feed))
        rows = ((feed, name, batch_id) for name in islice(names, max(room, 0)))
        self._insert("insert or ignore into feed_column values (?, ?, ?)", rows)

    def owner_id(self, feed: str) -> int | None:
        """Return the number under which this ledger's batches of a feed are committed."""
        row = self._db.execute("select id from owner where feed = ?", (feed,)).fetchone()
        return int(row[0]) if row else None

    def continues(self, feed: str, last: int | None) -> bool:
        """Tell whether a batch under this number is of this ledger, or the last it took over."""
        sql = "select 1 from owner where feed = ? and (? is null or ? in (id, predecessor))"
        return self._db.execute(sql, (feed, last, last)).fetchone() is not None

    def take_over(self, feed: str, owner_id: int, predecessor: int | None) -> None:
        """Forget the plans of a feed, and commit its batches under a new number from now on."""
        self._db.execute("delete from planned_state where feed = ?", (feed,))
        self._insert("replace into owner values (?, ?, ?)", [(feed, owner_id, predecessor)])

    def rebuild(self, feed: str, batch_id: int, files: Iterable[LandedFile]) -> None:
        """Add what the tables know of landed files; complete up to `batch_id` afterwards."""
        sql = "insert or replace into planned_state values (?, ?, ?, ?, ?, ?)"
        marker = LandedFile(_REBUILT, 0, 0, 0, batch_id)
        self._insert(sql, ((feed, *f) for f in chain(files, [marker])))

    def _insert(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._db.execute("begin immediate")
        try:
            self._db.executemany(sql, rows)
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")
