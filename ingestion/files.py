"""Feeds of files: discovery, plans, and landing a plan exactly once.

A file is landed if and only if it stands in a plan of the ledger whose batch id is not above that
of the bronze table. So a plan above it is landed (again) as it was written, before anything new.
"""

import fcntl
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from ingestion.bronze import MAX_CONFLICTS, BatchResult, Bronze, Quarantine, Staging, Tables
from ingestion.config import Feed, FileOptions
from ingestion.errors import ConflictError, FeedError
from ingestion.formats import Chunk, read_records
from ingestion.ledger import FileState, Ledger
from ingestion.records import (
    REJECT_SCHEMA,
    ROW_SCHEMA,
    Headers,
    Reject,
    as_text,
    file_rows,
    reject_rows,
)

log = logging.getLogger(__name__)

# Held in memory per batch; more goes to a temporary file on the lakehouse's disk.
STAGING_BYTES = 128 * 1024 * 1024

_IGNORED_ENDINGS = (".tmp", ".part", "_")


class FileUnusableError(Exception):
    """A planned file is not what was planned any more, or cannot be read at all."""

    def __init__(self, state: FileState, problem: str, is_fault: bool) -> None:
        """`is_fault`: a person must do something, such as give a permission."""
        super().__init__(f"{state.path}: {problem}")
        self.state, self.is_fault = state, is_fault


class FileSource:
    """One feed of files."""

    def __init__(self, feed: Feed, options: FileOptions, state_directory: Path) -> None:
        """Take the settings; nothing is opened or written before `land`."""
        self.feed, self.options, self._state = feed, options, state_directory
        self._faults: list[str] = []

    def check(self) -> None:
        """Raise ConfigError where the folder cannot be listed."""
        if not self.options.path.is_dir():
            raise self.feed.error("files.path", f"{self.options.path} is not a folder; create it")
        if not os.access(self.options.path, os.R_OK | os.X_OK):
            raise self.feed.error("files.path", f"{self.options.path} may not be read; permit it")

    def close(self) -> None:
        """Nothing is kept open."""

    def land(self, tables: Tables) -> Iterator[BatchResult]:
        """Land what was planned and did not get in, then every new file; yield each batch.

        Raise FeedError when all is done if some file could not be read.
        """
        with self._lock():
            tables.refresh()  # what was committed before the lock was ours
            ledger = Ledger(self._state / "ledger.sqlite")
            try:
                self._repair(ledger, tables.bronze, tables.quarantine)
                for batch_id in ledger.planned_batches(self.feed.name, tables.bronze.batch_id):
                    yield from self._land_plan(ledger, batch_id, tables)
                for files in self._group(self._new_files(ledger)):
                    batch_id = tables.bronze.batch_id + 1
                    ledger.plan(self.feed.name, batch_id, files)
                    yield from self._land_plan(ledger, batch_id, tables)
            finally:
                ledger.close()
        if self._faults:
            more = f" (and {len(self._faults) - 1} more)" if len(self._faults) > 1 else ""
            raise FeedError(f"not landed: {self._faults[0]}{more}")

    def lag(self, bronze: Bronze) -> dict[str, int]:
        """Return how many files, with how many bytes, are not landed yet."""
        self.check()
        waiting = self._discover()
        path = self._state / "ledger.sqlite"
        if path.exists():
            ledger = Ledger(path)
            planned = ledger.planned_batches(self.feed.name, bronze.batch_id)
            pending = {f.path for b in planned for f in ledger.files(self.feed.name, b)}
            known = ledger.known(self.feed.name, [f.path for f in waiting])
            ledger.close()
            waiting = [f for f in waiting if f.path not in known or f.path in pending]
        return {"files": len(waiting), "bytes": sum(f.size for f in waiting)}

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep a second process from planning this feed; the lock ends with the process."""
        self._state.mkdir(parents=True, exist_ok=True)
        path = self._state / f"{self.feed.name}.lock"
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FeedError(
                    f"another process is landing this feed (it holds {path})"
                ) from error
            yield

    def _repair(self, ledger: Ledger, bronze: Bronze, quarantine: Quarantine) -> None:
        """Rebuild the ledger where the tables know of batches that it does not."""
        name = self.feed.name
        if ledger.last_batch(name) >= bronze.batch_id:
            return
        log.warning(
            "feed %s: the ledger ends before batch %d of bronze; rebuilding it from the tables",
            name,
            bronze.batch_id,
        )
        landed = bronze.landed_files("true", bronze.batch_id)
        rejected = quarantine.landed_files(f"feed = '{name}'", bronze.batch_id)
        ledger.rebuild(name, bronze.batch_id, chain(landed, rejected))

    # --- discovery ------------------------------------------------------------------------------

    def _new_files(self, ledger: Ledger) -> list[FileState]:
        """Return files that were never planned, and report those that changed since they were."""
        found = self._discover()
        known = ledger.known(self.feed.name, [f.path for f in found])
        for state in found:
            if known.get(state.path, state) != state and ledger.report_change(
                self.feed.name, state
            ):
                log.warning(
                    "feed %s: %s changed after it was landed; the change is not landed",
                    self.feed.name,
                    state.path,
                )
        return [state for state in found if state.path not in known]

    def _discover(self) -> list[FileState]:
        """List the files of the feed, oldest first: arrival order is what settles ties later."""
        found = []
        for path in list_files(self.options.path, self.options.glob):
            try:
                facts = Path(path).stat()
            except FileNotFoundError:
                continue  # gone since it was listed
            if not stat.S_ISREG(facts.st_mode):
                continue
            try:
                path.encode()
            except UnicodeEncodeError:
                self._faults.append(f"{path!r}: the name is not valid UTF-8; rename the file")
                continue
            found.append(FileState(path, facts.st_size, facts.st_mtime_ns))
        return sorted(found, key=lambda f: (f.mtime_ns, f.path))

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

    def _land_plan(self, ledger: Ledger, batch_id: int, tables: Tables) -> Iterator[BatchResult]:
        """Land a plan; files that are not as planned are taken out, to be planned anew."""
        conflicts = 0
        while files := ledger.files(self.feed.name, batch_id):
            rows = Staging(ROW_SCHEMA, self._state, STAGING_BYTES)
            rejects = Staging(REJECT_SCHEMA, self._state, STAGING_BYTES)
            try:
                self._withdraw(batch_id, tables.quarantine)
                for file in files:
                    self._stage(file, rows, rejects)
                yield tables.commit(batch_id, rows, rejects, {})
                return
            except ConflictError:
                conflicts += 1
                if conflicts >= MAX_CONFLICTS:
                    raise
                tables.refresh()
            except FileUnusableError as error:
                log.warning("feed %s: %s; not landed now", self.feed.name, error)
                if error.is_fault:
                    self._faults.append(str(error))
                ledger.unplan(self.feed.name, error.state.path)
            finally:
                rows.close()
                rejects.close()

    def _withdraw(self, batch_id: int, quarantine: Quarantine) -> None:
        """Take out what an earlier try of this batch rejected.

        It may have ended between the two commits, with other settings, or with a file that has
        changed since: everything is judged again.
        """
        if withdrawn := quarantine.withdraw(self.feed.name, batch_id):
            log.warning(
                "feed %s: batch %d was not completed; its %d rejected records are judged again",
                self.feed.name,
                batch_id,
                withdrawn,
            )

    def _stage(self, file: FileState, rows: Staging, rejects: Staging) -> None:
        """Read one file whole, and make sure that it is the planned one before and after."""
        headers: Headers = [
            ("size", str(file.size)),
            ("mtime_ns", str(file.mtime_ns)),
            ("format", self.feed.format),
        ]
        modified_ms = file.mtime_ns // 1_000_000
        try:
            with open(file.path, "rb") as stream:  # noqa: PTH123 - the ledger keeps plain texts
                _expect(file, stream)
                for chunk in self._chunks(stream):
                    if chunk.positions:
                        rows.add(file_rows(file.path, headers, modified_ms, chunk[:3]))
                    if chunk.rejects:
                        rejects.add(reject_rows(_rejects(file, headers, modified_ms, chunk)))
                _expect(file, stream)
        except FileNotFoundError:
            raise FileUnusableError(file, "has vanished", is_fault=False) from None
        except OSError as error:
            problem = error.strerror or str(error)
            raise FileUnusableError(file, problem, is_fault=True) from error

    def _chunks(self, stream: BinaryIO) -> Iterator[Chunk]:
        return read_records(
            stream,
            self.feed.format,
            self.options.delimiter,
            self.feed.key,
            self.options.max_record_bytes,
        )


def _expect(file: FileState, stream: BinaryIO) -> None:
    facts = os.fstat(stream.fileno())
    if (facts.st_size, facts.st_mtime_ns) != (file.size, file.mtime_ns):
        raise FileUnusableError(file, "has changed since it was planned", is_fault=False)


def _rejects(file: FileState, headers: Headers, modified_ms: int, chunk: Chunk) -> list[Reject]:
    result = []
    for position, original, reason in chunk.rejects:
        value, encoding = as_text(original, "value")
        result.append(
            Reject(file.path, 0, position, None, value, headers + encoding, modified_ms, reason)
        )
    return result


def list_files(root: Path, glob: str) -> Iterator[str]:
    """Yield the paths under a folder that match: `*` and `?` within a name, `**/` for any folders.

    Hidden files and folders, and names that end in .tmp, .part or _, belong to whoever is still
    writing them. A folder that cannot be listed is an error, never an empty folder.
    """
    matches = _matcher(glob)
    depth = None if "**" in glob else glob.count("/")

    def fail(error: OSError) -> None:
        raise FeedError(f"{error.filename} cannot be listed: {error.strerror}") from error

    for folder, folders, names in os.walk(root, onerror=fail):
        relative = os.path.relpath(folder, root)
        prefix = "" if relative == "." else f"{relative}/"
        folders[:] = [f for f in folders if not f.startswith(".")]
        if depth is not None and prefix.count("/") >= depth:
            folders.clear()
        for name in names:
            if name.startswith(".") or name.endswith(_IGNORED_ENDINGS):
                continue
            if matches(prefix + name):
                yield f"{folder}/{name}"


def _matcher(glob: str) -> Callable[[str], object]:
    parts = re.split(r"(\*\*/|\*|\?)", glob)
    meaning = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(p, re.escape(p)) for p in parts)).fullmatch
