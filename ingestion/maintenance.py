"""`ingest compact`: few large files out of many small ones, and the end of files nobody reads.

Rows, batch ids and positions stay as they are, so it may run at any time, beside landing and
beside readers: what a compaction replaces is deleted only after `KEEP_DAYS`, far longer than any
query runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import orjson
from deltalake import DeltaTable

from ingestion.config import feed_names
from ingestion.errors import ConfigError
from ingestion.options import feeds_option, json_option, lakehouse_option

# Delta itself refuses to delete replaced files sooner, and readers rely on that.
KEEP_DAYS = 7
TARGET_FILE_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True)
class Compaction:
    """What was done to one table: its files before and after, and old files deleted."""

    table: str
    files_before: int
    files_after: int
    files_deleted: int


def compact(path: Path, keep_days: int = KEEP_DAYS) -> Compaction:
    """Compact one table, write a checkpoint, delete files replaced over `keep_days` days ago."""
    table = DeltaTable(path)
    before = len(table.file_uris())
    table.optimize.compact(target_size=TARGET_FILE_BYTES)
    table.create_checkpoint()
    deleted = table.vacuum(retention_hours=keep_days * 24, dry_run=False)
    return Compaction(path.name, before, len(table.file_uris()), len(deleted))


def tables(lakehouse: Path, feeds: Sequence[str]) -> Iterator[Path]:
    """Yield the tables of these feeds that exist, and the quarantine."""
    folders = [*(lakehouse / "bronze" / feed for feed in feeds), lakehouse / "quarantine"]
    return (folder for folder in folders if DeltaTable.is_deltatable(str(folder)))


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
    names: tuple[str, ...], keep_days: int, as_json: bool, feeds_file: Path, lakehouse: Path
) -> None:
    """Merge the small files of bronze and quarantine; write checkpoints; delete old files.

    No row changes, and nothing has to be stopped meanwhile. Once a day is enough.

    Exit codes: 0 done, 2 a wrong setting.
    """
    try:
        declared = feed_names(feeds_file)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    for name in names:
        if name not in declared:
            raise click.UsageError(f"unknown feed '{name}'; declared are: {', '.join(declared)}")
    done = [compact(path, keep_days) for path in tables(lakehouse, names or declared)]
    if as_json:
        click.echo(orjson.dumps({"tables": [asdict(table) for table in done]}).decode())
        return
    for table in done:
        click.echo(
            f"{table.table:<24} {table.files_before:>6,} files -> {table.files_after:,},"
            f" {table.files_deleted:,} old files deleted"
        )
