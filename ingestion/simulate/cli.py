"""`ingest simulate`: play a bank into topics and vendor files."""

from __future__ import annotations

import gc
import json
import os
from datetime import datetime
from pathlib import Path

import click

from ingestion.simulate.bank import Settings
from ingestion.simulate.simulation import Part, Report, run
from ingestion.simulate.sinks import JsonLines, Kafka, Sink, SinkError, TopicWriter


def _parse_part(_context: click.Context, _parameter: click.Parameter, value: str) -> Part:
    """`2/3` as a part."""
    number, _, total = value.partition("/")
    try:
        return Part(int(number), int(total))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not like 1/3, with 1 to 3 before the /") from error


@click.command("simulate")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--customers", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--days", type=click.IntRange(min=1), default=180, show_default=True)
@click.option(
    "--end",
    type=click.DateTime(["%Y-%m-%d"]),
    default="2026-06-30",
    show_default=True,
    help="The last simulated day (UTC).",
)
@click.option(
    "--part",
    callback=_parse_part,
    default="1/1",
    metavar="I/N",
    show_default=True,
    help="Deliver only the I-th of N equal parts of what arrives.",
)
@click.option(
    "--landing",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the vendors' files.  [default: $LAKEHOUSE_PATH/landing]",
)
@click.option(
    "--topics-to",
    default="kafka",
    show_default=True,
    metavar="kafka|DIR",
    help="Kafka, or a folder for one .jsonl file per topic.",
)
@click.option("--bootstrap-servers", envvar="KAFKA_BOOTSTRAP_SERVERS", show_envvar=True)
@click.option(
    "--partitions",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Partitions of the topics that do not exist yet.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def simulate(
    *,
    seed: int,
    customers: int,
    days: int,
    end: datetime,
    part: Part,
    landing: Path | None,
    topics_to: str,
    bootstrap_servers: str | None,
    partitions: int,
    as_json: bool,
) -> None:
    """Simulate a bank: change records, app events and vendor files, with their imperfections.

    The same arguments always give the same bytes.
    """
    settings = Settings(seed, customers, days, end.date())
    landing = landing or Path(os.environ.get("LAKEHOUSE_PATH", "lakehouse")) / "landing"
    try:
        topics: TopicWriter
        if topics_to != "kafka":
            topics = JsonLines(Path(topics_to), append=part.number > 1)
        elif bootstrap_servers:
            topics = Kafka(bootstrap_servers, partitions=partitions)
        else:
            raise SinkError(
                "no broker named: give --bootstrap-servers (KAFKA_BOOTSTRAP_SERVERS), "
                "or a folder with --topics-to"
            )
        # nothing here is cyclic: the collector would go through all that is alive for nothing
        gc.disable()
        report = run(settings, Sink(landing, topics), part=part)
    except SinkError as error:
        raise click.ClickException(str(error)) from error
    finally:
        gc.enable()
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else _summary(report))


def _summary(report: Report) -> str:
    settings, stated = report.settings, report.imperfections
    base = report.records - sum(
        count for flaw, count in report.flaws.items() if flaw.startswith(("dup", "mal"))
    )
    lines = [
        f"Simulated {settings.customers:,} customers from {settings.start} to {settings.end} "
        f"(seed {settings.seed}, part {report.part.number}/{report.part.total}): "
        f"{report.records:,} records, {report.files} vendor files",
        "",
        *(f"  {feed:<24}{count:>10,}" for feed, count in sorted(report.feeds.items())),
        "",
        "What went wrong on the way (of the records that are not extra copies)",
    ]
    expected = {
        "late": stated.late,
        "out_of_order": stated.out_of_order,
        "duplicate": stated.duplicates,
    }
    for flaw, count in sorted(report.flaws.items()):
        share = f"{count / base:>8.2%}" if base else ""
        note = f" (stated {expected[flaw]:.2%})" if flaw in expected else ""
        lines.append(f"  {flaw:<34}{count:>7,}{share}{note}")
    malformed = sum(count for flaw, count in report.flaws.items() if flaw.startswith("mal"))
    lines += [
        f"  malformed in all: {malformed:,}, stated {stated.malformed:.2%} of the topics' records "
        f"and {stated.malformed_rows:.2%} of the vendors' rows",
        "Deleted: "
        + (", ".join(f"{n:,} {feed}" for feed, n in sorted(report.deleted.items())) or "nothing"),
        f"{report.seconds:.1f} s, {report.events_per_second:,} events/s",
    ]
    return "\n".join(lines)
