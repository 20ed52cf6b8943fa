"""The `ingest` command.

Exit codes: 0 done (records may be in quarantine), 1 a feed failed, 2 a setting is wrong.
"""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import click
import orjson

from ingestion.config import feed_names, load_feeds
from ingestion.errors import ConfigError
from ingestion.kafka import client_log
from ingestion.runner import FeedResult, run_once
from ingestion.status import feed_statuses

DEFAULT_FEEDS_FILE = Path(__file__).with_name("feeds.yml")


class _LazyGroup(click.Group):
    """Imports a command's module only when the command is asked for."""

    _modules: ClassVar = {"simulate": "ingestion.simulate.cli"}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._modules])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return super().get_command(ctx, cmd_name)
        command = getattr(importlib.import_module(self._modules[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - narrows the type
        return command


@click.group(cls=_LazyGroup)
@click.version_option(package_name="realtime-insights")
def main() -> None:
    """Land Kafka topics and files in bronze Delta tables, exactly once."""


_feeds_option = click.option(
    "--feeds",
    "feeds_file",
    envvar="FEEDS_FILE",
    type=click.Path(path_type=Path),
    default=DEFAULT_FEEDS_FILE,
    help="The file that declares the feeds.  [env FEEDS_FILE; default: the demo's feeds]",
)
_lakehouse_option = click.option(
    "--lakehouse",
    envvar="LAKEHOUSE_PATH",
    type=click.Path(path_type=Path),
    default=Path("lakehouse"),
    show_default=True,
    help="The folder of all tables.  [env LAKEHOUSE_PATH]",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@main.command()
@click.option("--once", is_flag=True, help="Land what is there now, then stop.")
@click.option("--feed", "names", multiple=True, metavar="NAME", help="Only this feed (repeatable).")
@click.option("-v", "--verbose", is_flag=True, help="Log each batch to the standard error output.")
@_json_option
@_feeds_option
@_lakehouse_option
def run(  # noqa: PLR0917 - click passes each option by name
    once: bool,
    names: tuple[str, ...],
    verbose: bool,
    as_json: bool,
    feeds_file: Path,
    lakehouse: Path,
) -> None:
    """Land new records of all feeds, or of those given by --feed.

    Every selected feed is checked first; with a wrong setting nothing is landed.

    Exit codes: 0 done (rejected records are in quarantine), 1 a feed failed, 2 a wrong setting.
    """
    _set_up_logging(verbose)
    if not once:
        raise click.UsageError("say --once: land what is there now, then stop")
    try:
        feeds = load_feeds(feeds_file, _environment(lakehouse), names or None)
        results = run_once(feeds, feed_names(feeds_file), lakehouse, lambda: datetime.now(UTC))
    except ConfigError as error:
        _fail(error)
    if as_json:
        _print_json({"feeds": [asdict(r) for r in results], **_totals(results)})
    else:
        _print_table(
            ("feed", "batch", "landed", "rejected", "seconds"),
            [
                (r.feed, r.batch_id or "-", r.landed, r.rejected, f"{r.seconds:.2f}")
                for r in results
            ],
        )
    for result in results:
        if result.error:
            click.echo(f"feed '{result.feed}' failed: {result.error}", err=True)
    if any(result.error for result in results):
        sys.exit(1)


@main.command()
@_json_option
@_feeds_option
@_lakehouse_option
def status(as_json: bool, feeds_file: Path, lakehouse: Path) -> None:
    """Show each feed's last batch, its rows and its lag. Writes nothing."""
    _set_up_logging(verbose=False)
    try:
        rows = feed_statuses(feeds_file, lakehouse, _environment(lakehouse))
    except ConfigError as error:
        _fail(error)
    if as_json:
        _print_json({"feeds": [asdict(row) for row in rows]})
        return
    _print_table(
        ("feed", "batch", "landed", "rejected", "last commit (UTC)", "lag"),
        [
            (
                row.feed,
                row.batch_id or "-",
                row.landed_rows,
                row.rejected_rows,
                f"{row.last_commit_at:%Y-%m-%d %H:%M:%S}" if row.last_commit_at else "-",
                row.note
                if row.lag is None
                else ", ".join(f"{count} {unit}" for unit, count in row.lag.items()),
            )
            for row in rows
        ],
    )


def _environment(lakehouse: Path) -> dict[str, str]:
    """Return the environment for the feeds file, with the folder that --lakehouse names."""
    return {**os.environ, "LAKEHOUSE_PATH": str(lakehouse)}


def _set_up_logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    # The client logs each failed connection; the job says it once, in its own words.
    client_log.setLevel(logging.INFO if verbose else logging.CRITICAL)


def _fail(error: ConfigError) -> None:
    click.echo(str(error), err=True)
    sys.exit(2)


def _totals(results: Sequence[FeedResult]) -> dict[str, int]:
    return {
        "landed": sum(r.landed for r in results),
        "rejected": sum(r.rejected for r in results),
        "failed": sum(r.error is not None for r in results),
    }


def _print_json(content: dict[str, object]) -> None:
    click.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())


def _print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns, numbers to the right."""
    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]
    right = [all(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    for line in [list(head), *cells]:
        padded = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())
