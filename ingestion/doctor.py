"""`ingest doctor`: look for what would keep a run from working, and say how to mend it."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import obstore
import orjson
from deltalake import DeltaTable
from obstore.exceptions import BaseError
from obstore.store import from_url

from ingestion.bronze import Bronze
from ingestion.config import Feed, feed_names, load_feeds
from ingestion.errors import ConfigError
from ingestion.locations import Root, state_folder, under
from ingestion.options import environment, feeds_option, json_option, lakehouse_option
from ingestion.runner import describe, open_source

# Below this a batch and a compaction may not fit side by side.
FREE_BYTES = 2 * 1024**3
# Clocks of machines that write one table may differ by so much.
CLOCK_TOLERANCE = timedelta(seconds=60)

FreeBytes = Callable[[Path], int]


@dataclass(frozen=True)
class Finding:
    """The result of one check; `fix` is empty where all is well."""

    check: str
    feed: str | None
    said: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """True where there is nothing to mend."""
        return not self.fix


def examine(
    feeds_file: Path,
    lakehouse: Root,
    env: Mapping[str, str],
    now: datetime,
    free_bytes: FreeBytes = lambda folder: shutil.disk_usage(folder).free,
) -> Iterator[Finding]:
    """Check settings, sources, permissions, free disk and clock. Leaves nothing behind."""
    try:
        names = feed_names(feeds_file)
    except ConfigError as error:
        yield Finding("feeds file", None, error.setting, error.fix)
        return
    yield Finding("feeds file", None, f"{feeds_file} declares {len(names)} feeds")
    for name in names:
        try:
            (feed,) = load_feeds(feeds_file, env, [name])
        except ConfigError as error:
            yield Finding("settings", name, error.setting, error.fix)
        else:
            yield _source(feed, lakehouse)
    place = list(_lakehouse(lakehouse, free_bytes))
    yield from place
    if place[0].ok:
        yield _clock(names, lakehouse, now)


def _source(feed: Feed, lakehouse: Root) -> Finding:
    source = open_source(feed, lakehouse)
    try:
        source.check()
    except ConfigError as error:
        return Finding("source", feed.name, error.setting, error.fix)
    except Exception as problem:
        # Whatever a source answers instead of data is what this command is asked for.
        return Finding("source", feed.name, describe(problem), "make the source answer")
    finally:
        source.close()
    return Finding("source", feed.name, "can be read")


def _lakehouse(lakehouse: Root, free_bytes: FreeBytes) -> Iterator[Finding]:
    """Try to write where the tables are; look for free disk where this machine has to have some."""
    yield _bucket(lakehouse) if isinstance(lakehouse, str) else _folder(_existing(lakehouse))
    free = free_bytes(_existing(state_folder(lakehouse)))
    said = f"{free / 1024**3:,.1f} GiB free"
    fix = "" if free >= FREE_BYTES else f"make room: {FREE_BYTES / 1024**3:.0f} GiB are needed"
    yield Finding("disk", None, said, fix)


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _folder(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("lakehouse", None, f"{folder} can be written")
    except OSError as error:
        said = f"{folder}: {error.strerror}"
        return Finding("lakehouse", None, said, "let this user write there, or name another folder")


def _bucket(url: str) -> Finding:
    name = "ingest-doctor"
    try:
        store = from_url(url)
        obstore.put(store, name, b"")
        obstore.delete(store, name)
    except (BaseError, OSError, ValueError) as error:
        said = f"{url}: {str(error).splitlines()[0]}"
        return Finding("lakehouse", None, said, "check address, credentials and permissions")
    return Finding("lakehouse", None, f"{url} can be written")


def _clock(names: list[str], lakehouse: Root, now: datetime) -> Finding:
    """A clock that was set back would stamp new rows as older than the ones before them."""
    commits = [
        committed
        for name in names
        if DeltaTable.is_deltatable(under(lakehouse, "bronze", name))
        if (committed := Bronze(lakehouse, name).statistics()[1]) is not None
    ]
    newest = max(commits, default=now)
    if newest - now > CLOCK_TOLERANCE:
        said = f"it is {now:%Y-%m-%d %H:%M:%S} UTC, but the newest commit is of {newest:%H:%M:%S}"
        return Finding("clock", None, said, "set this machine's clock (NTP)")
    return Finding("clock", None, f"{now:%Y-%m-%d %H:%M:%S} UTC, after every commit")


@click.command("doctor")
@json_option
@feeds_option
@lakehouse_option
def command(as_json: bool, feeds_file: Path, lakehouse: Root) -> None:
    """Check settings, sources, permissions, free disk and clock, and say how to mend them.

    Nothing is landed. Exit codes: 0 all is well, 1 something is to be mended.
    """
    findings = list(examine(feeds_file, lakehouse, environment(lakehouse), datetime.now(UTC)))
    if as_json:
        rows = [{**asdict(finding), "ok": finding.ok} for finding in findings]
        click.echo(orjson.dumps({"findings": rows}, option=orjson.OPT_INDENT_2).decode())
    else:
        for finding in findings:
            place = f"{finding.check} {finding.feed or ''}".strip()
            fix = f"  ->  {finding.fix}" if finding.fix else ""
            click.echo(f"{'ok  ' if finding.ok else 'MEND'}  {place:<32}{finding.said}{fix}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)
