"""The `ingest` command.

Exit codes: 0 done (records may be in quarantine), 1 a feed failed, 2 a setting is wrong.
"""

import gc
import importlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any, ClassVar

import click
import orjson

from ingestion.broker import client_log
from ingestion.config import Feed, feed_names, load_feeds
from ingestion.errors import ConfigError
from ingestion.locations import Root, root
from ingestion.metrics import Metrics, serve
from ingestion.options import environment, feeds_option, json_option, lakehouse_option
from ingestion.runner import Advance, FeedResult, no_progress, run_continuous, run_once
from ingestion.runner import backfill as run_backfill
from ingestion.secrets import set_variables
from ingestion.status import feed_statuses

log = logging.getLogger(__name__)


class _LazyGroup(click.Group):
    """Imports a command's module only when the command is asked for."""

    _commands: ClassVar = {
        "compact": "ingestion.maintenance:command",
        "doctor": "ingestion.doctor:command",
        "quarantine": "ingestion.quarantine:command",
        "replay": "ingestion.replay:command",
        "simulate": "ingestion.simulate.cli:simulate",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._commands:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._commands[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - narrows the type
        return command


@click.group(cls=_LazyGroup)
@click.version_option(package_name="realtime-insights")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="An environment variable, where a scheduler can set none (repeatable).",
)
@click.option(
    "--secret-scope",
    metavar="SCOPE",
    help="Set every secret of this Databricks scope as the environment variable of its key.",
)
def main(settings: tuple[str, ...], secret_scope: str | None) -> None:
    """Land Kafka topics and files in bronze Delta tables, exactly once."""
    set_variables(settings, secret_scope)


@main.command()
@click.option("--once", is_flag=True, help="Land what is there now, then stop.")
@click.option("--continuous", is_flag=True, help="Land what comes, until SIGTERM or SIGINT.")
@click.option(
    "--trigger-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="With --continuous: a batch at the latest after so long, instead of what the feeds say.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="With --continuous: metrics for Prometheus at http://127.0.0.1:PORT/metrics (0: any).",
)
@click.option(
    "--engine",
    type=click.Choice(["ingest", "spark"]),
    default="ingest",
    show_default=True,
    help="What lands: this process, or streams of Spark on many machines (pyspark).",
)
@click.option(
    "--take-over",
    is_flag=True,
    help="Go on with tables that the other engine has landed, which must have been stopped.",
)
@click.option("--feed", "names", multiple=True, metavar="NAME", help="Only this feed (repeatable).")
@click.option("-v", "--verbose", is_flag=True, help="Log each batch to the standard error output.")
@json_option
@feeds_option
@lakehouse_option
def run(
    once: bool,
    continuous: bool,
    trigger_seconds: float | None,
    metrics_port: int | None,
    engine: str,
    take_over: bool,
    names: tuple[str, ...],
    verbose: bool,
    as_json: bool,
    feeds_file: Path,
    lakehouse: Root,
) -> None:
    """Land new records of all feeds, or of those given by --feed.

    Every selected feed is checked first; with a wrong setting nothing is landed. With --continuous
    a feed that fails later is said and tried again, while the others go on; a signal ends the run
    after the batches under way. Logs are JSON lines where the standard error is no terminal.

    Exit codes: 0 done (rejected records are in quarantine), 1 a feed failed (with --continuous: was
    failing at the end), 2 a wrong setting.
    """
    set_up_logging(verbose or continuous)
    # Messages are many and hold no cycles: to look for some took a tenth of the time.
    gc.set_threshold(100_000)
    if once == continuous:
        raise click.UsageError("say either --once or --continuous")
    if once and (trigger_seconds, metrics_port) != (None, None):
        raise click.UsageError("--trigger-seconds and --metrics-port go with --continuous")
    try:
        feeds = load_feeds(feeds_file, environment(lakehouse), names or None)
        declared = feed_names(feeds_file)
        if trigger_seconds is not None:
            feeds = [replace(feed, trigger_seconds=trigger_seconds) for feed in feeds]
        if engine == "spark":
            if metrics_port is not None:
                raise click.UsageError("--metrics-port: Spark has metrics of its own")
            results = _run_on_spark(feeds, declared, lakehouse, once=once, take_over=take_over)
        elif once:
            progress = _progress_bar if sys.stderr.isatty() else no_progress
            results = run_once(feeds, declared, lakehouse, _now, progress, take_over=take_over)
        else:
            results = _run_until_signal(
                feeds, declared, lakehouse, metrics_port, take_over=take_over
            )
    except ConfigError as error:
        _fail(error)
    _report(results, as_json)


@main.command()
@click.argument("feed")
@click.option(
    "--path", "folder", type=root, required=True, help="The folder, or its URL, to land once."
)
@click.option("--glob", default="**/*", show_default=True, help="Which files: *, ?, **/.")
@json_option
@feeds_option
@lakehouse_option
def backfill(
    feed: str, folder: Root, glob: str, as_json: bool, feeds_file: Path, lakehouse: Root
) -> None:
    """Land the files of another folder in FEED's table, with FEED's format, beside its live run.

    Each file is landed once, however often this runs; the live run goes on between two batches.

    Exit codes: 0 done (rejected records are in quarantine), 1 it failed, 2 a wrong setting.
    """
    set_up_logging(verbose=False)
    try:
        (declared,) = load_feeds(feeds_file, environment(lakehouse), [feed])
        folder = folder if isinstance(folder, str) else folder.absolute()
        names = feed_names(feeds_file)
        result = run_backfill(declared, folder, glob, names, lakehouse, _now)
    except ConfigError as error:
        _fail(error)
    _report([result], as_json)


@contextmanager
def _progress_bar(feed: str, waiting: Callable[[], Mapping[str, int]]) -> Iterator[Advance]:
    """Show on a terminal how much of what waits in a feed is landed."""
    unit, total = next(iter(waiting().items()))
    label = f"{feed} ({total:,} {unit})"
    with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True) as bar:
        yield bar.update


def _report(results: Sequence[FeedResult], as_json: bool) -> None:
    """Print what was done; end the process where a feed failed."""
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


def _run_until_signal(
    feeds: Sequence[Feed],
    declared: Sequence[str],
    lakehouse: Root,
    metrics_port: int | None,
    *,
    take_over: bool,
) -> list[FeedResult]:
    metrics = Metrics()
    with _until_signal() as stop, ExitStack() as stack:
        if metrics_port is not None:
            try:
                port = stack.enter_context(serve(metrics, metrics_port))
            except OSError as error:
                raise click.UsageError(f"--metrics-port {metrics_port}: {error}") from error
            log.info("metrics at http://127.0.0.1:%d/metrics", port)
        return run_continuous(
            feeds, declared, lakehouse, _now, stop=stop, metrics=metrics, take_over=take_over
        )


def _run_on_spark(
    feeds: Sequence[Feed],
    declared: Sequence[str],
    lakehouse: Root,
    *,
    once: bool,
    take_over: bool,
) -> list[FeedResult]:
    # Spark needs pandas, if only to see that it is there.
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, _WithoutPandas)]
    from ingestion import spark  # noqa: PLC0415 - not needed by others

    session = spark.session()
    if once:
        return spark.run_once(feeds, declared, lakehouse, session, take_over=take_over)
    with _until_signal() as stop:
        return spark.run_continuous(
            feeds, declared, lakehouse, session, stop=stop, take_over=take_over
        )


@contextmanager
def _until_signal() -> Iterator[threading.Event]:
    """Set an event at the first SIGTERM or SIGINT; a second one ends the process at once."""
    stop = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def on_signal(number: int, frame: object) -> None:
        stop.set()
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    for each in (signal.SIGTERM, signal.SIGINT):
        before[each] = signal.signal(each, on_signal)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas, in 0.25 s, only to ask whether a list is something of it."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not used here", name=fullname)


def program() -> None:
    """Run the command as a process of its own, or as a wheel task of Databricks.

    That calls it inside a process which goes on afterwards, and takes any SystemExit for a failure.
    """
    without_pandas = _WithoutPandas()
    sys.meta_path.insert(0, without_pandas)
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        if without_pandas in sys.meta_path:
            sys.meta_path.remove(without_pandas)


def _now() -> datetime:
    return datetime.now(UTC)


@main.command()
@json_option
@feeds_option
@lakehouse_option
def status(as_json: bool, feeds_file: Path, lakehouse: Root) -> None:
    """Show each feed's last batch, its rows and its lag. Writes nothing."""
    set_up_logging(verbose=False)
    try:
        rows = feed_statuses(feeds_file, lakehouse, environment(lakehouse))
    except ConfigError as error:
        _fail(error)
    if as_json:
        _print_json({"feeds": [asdict(row) for row in rows]})
        return
    _print_table(
        ("feed", "batch", "landed", "rejected", "last commit (UTC)", "columns", "lag"),
        [
            (
                row.feed,
                row.batch_id or "-",
                row.landed_rows,
                row.rejected_rows,
                f"{row.last_commit_at:%Y-%m-%d %H:%M:%S}" if row.last_commit_at else "-",
                row.drift,
                row.note
                if row.lag is None
                else ", ".join(f"{count} {unit}" for unit, count in row.lag.items()),
            )
            for row in rows
        ],
    )


class _JsonFormatter(logging.Formatter):
    """One JSON object per line, with the fields that the message was given."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return orjson.dumps(line, default=str).decode()


def set_up_logging(verbose: bool) -> None:
    """Log to the standard error: warnings, or with `verbose` each batch."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(message)s")
        if sys.stderr.isatty()
        else _JsonFormatter()
    )
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
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
