"""`ingest compact`: few large files out of many small ones, and the end of what nobody reads.

Batch ids and positions stay as they are, so it may run at any time, beside landing and beside
readers: what a compaction replaces is deleted only after `KEEP_DAYS`, far longer than any query
runs. A continuous run does the same by itself.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import orjson
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from ingestion.bronze import Clock
from ingestion.config import Feed, retentions
from ingestion.errors import ConfigError
from ingestion.locations import Root, under
from ingestion.options import feeds_option, json_option, lakehouse_option

log = logging.getLogger(__name__)

# Delta itself refuses to delete replaced files sooner, and readers rely on that.
KEEP_DAYS = 7
TARGET_FILE_BYTES = 128 * 1024 * 1024
# A commit costs more the more files its table has: a continuous run merges them this often.
COMMITS_PER_COMPACTION = 100
# Old files and old rows are looked for at most this often.
CLEANING_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Compaction:
    """What was done to one table: its files before and after, and what was deleted."""

    table: str
    files_before: int
    files_after: int
    files_deleted: int
    rows_deleted: int


def compact(
    path: str, now: datetime, *, keep_days: int = KEEP_DAYS, retain_days: int | None = None
) -> Compaction:
    """Compact one table, write a checkpoint, delete files replaced over `keep_days` days ago.

    With `retain_days`, delete rows that were landed longer ago.
    """
    table = DeltaTable(path)
    before = len(table.file_uris())
    rows = _delete_old_rows(table, now - timedelta(days=retain_days)) if retain_days else 0
    table.optimize.compact(target_size=TARGET_FILE_BYTES)
    table.create_checkpoint()
    deleted = table.vacuum(retention_hours=keep_days * 24, dry_run=False)
    name = path.rsplit("/", 1)[-1]
    return Compaction(name, before, len(table.file_uris()), len(deleted), rows)


def _delete_old_rows(table: DeltaTable, before: datetime) -> int:
    moment = before.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    done = table.delete(f"ingested_at < timestamp '{moment}'")
    return int(done.get("num_deleted_rows") or 0)


class Upkeep:
    """Keeps the tables of a continuous run small, in a thread of its own, beside the landing."""

    def __init__(self, lakehouse: Root, feeds: Sequence[Feed], clock: Clock) -> None:
        """Nothing is done before tables have grown."""
        self._clock = clock
        self._retain_days = {under(lakehouse, "bronze", f.name): f.retain_days for f in feeds}
        self._quarantine = under(lakehouse, "quarantine")
        self._bronze = {feed.name: under(lakehouse, "bronze", feed.name) for feed in feeds}
        self._commits: Counter[str] = Counter()
        self._cleaned_at: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(1)

    def committed(self, feed: str, rejected: int) -> None:
        """Count a batch; merge the files of its tables when they have become many."""
        for path in [self._bronze[feed], *([self._quarantine] if rejected else [])]:
            self._commits[path] += 1
            if self._commits[path] >= COMMITS_PER_COMPACTION:
                self._commits[path] = 0
                self._pool.submit(self._tidy, path)

    def _tidy(self, path: str) -> None:
        try:
            if time.monotonic() - self._cleaned_at.get(path, -CLEANING_SECONDS) >= CLEANING_SECONDS:
                self._cleaned_at[path] = time.monotonic()
                compact(path, self._clock(), retain_days=self._retain_days.get(path))
            else:
                DeltaTable(path).optimize.compact(target_size=TARGET_FILE_BYTES)
        except DeltaError as error:  # the next time will do: nothing depends on it
            log.warning("%s was not compacted: %s", path, error)

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown()


@click.command("compact")
@click.option("--feed", "names", multiple=True, metavar="NAME", help="Only this feed (repeatable).")
@click.option(
    "--keep-days",
    type=click.IntRange(min=KEEP_DAYS),
    default=KEEP_DAYS,
    show_default=True,
    help="How long a replaced file stays for readers that began before.",
)
@json_option
@feeds_option
@lakehouse_option
def command(
    names: tuple[str, ...], keep_days: int, as_json: bool, feeds_file: Path, lakehouse: Root
) -> None:
    """Merge the small files of bronze and quarantine; delete old files, and rows past retain_days.

    Nothing has to be stopped meanwhile. Once a day is enough; a continuous run does it by itself.

    Exit codes: 0 done, 2 a wrong setting.
    """
    try:
        declared = retentions(feeds_file)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    for name in names:
        if name not in declared:
            raise click.UsageError(f"unknown feed '{name}'; declared are: {', '.join(declared)}")
    retain_days = {under(lakehouse, "bronze", name): declared[name] for name in names or declared}
    done = [
        compact(path, datetime.now(UTC), keep_days=keep_days, retain_days=retain_days.get(path))
        for path in [*retain_days, under(lakehouse, "quarantine")]
        if DeltaTable.is_deltatable(path)
    ]
    if as_json:
        click.echo(orjson.dumps({"tables": [asdict(table) for table in done]}).decode())
        return
    for table in done:
        click.echo(
            f"{table.table:<24} {table.files_before:>6,} files -> {table.files_after:,};"
            f" deleted: {table.files_deleted:,} old files, {table.rows_deleted:,} rows"
        )
