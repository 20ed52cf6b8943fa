"""`ingest quarantine`: what was rejected, and a second judgement after a fix.

A replay lands first and takes out of quarantine after. A crash between the two leaves records in
both tables; the next replay finds their addresses in bronze and only takes them out. Rejects of a
batch that a run has not finished are left alone: the next run judges that batch again.
"""

# pyarrow's types take parameters for the type checker only, not when the module runs.
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder

from ingestion.bronze import MAX_CONFLICTS, Bronze, Clock, TopicPartition
from ingestion.config import Feed, FileOptions, KafkaOptions, load_feeds
from ingestion.errors import ConfigError, ConflictError, DecodeError, FeedError
from ingestion.files import FileSource
from ingestion.ledger import Ledger
from ingestion.locations import Root, state_folder, under
from ingestion.messages import open_decoder
from ingestion.options import environment, feeds_option, json_option, lakehouse_option
from ingestion.records import (
    REJECT_SCHEMA,
    ROW_SCHEMA,
    Check,
    original_bytes,
    text_headers,
    value_check,
)

if TYPE_CHECKING:
    from ingestion.encodings import Decoder

# The formats whose quarantined text is a whole record. A row of a CSV file is not: it needs the
# header of its file, so it is replayed by correcting the file.
_CHECKED_AS = {
    "json": "json",
    "debezium": "debezium",
    "text": "text",
    "ndjson": "json",
    "json_document": "json",
}
# Addresses in one DELETE: a statement of a bounded size.
_ADDRESSES_PER_DELETE = 500
_NOTHING = REJECT_SCHEMA.empty_table()


@dataclass(frozen=True)
class Rejected:
    """The rejects of one feed with one reason."""

    feed: str
    reason: str
    records: int
    last_at: datetime


@dataclass(frozen=True)
class Replay:
    """What a replay did: records landed now, and records that are still rejected."""

    feed: str
    batch_id: int
    landed: int
    still_rejected: int


def summary(lakehouse: Root, feed: str | None = None) -> list[Rejected]:
    """Count the rejects per feed and reason, the most frequent first."""
    rows = _query(
        lakehouse,
        "feed, reason, count(*) as records, max(ingested_at) as last_at",
        feed,
        "group by feed, reason order by records desc, feed, reason",
    )
    return [Rejected(**row) for batch in rows for row in batch.to_pylist()]


def records(lakehouse: Root, feed: str, limit: int) -> Iterator[dict[str, Any]]:
    """Yield the newest rejects of a feed with address, reason and text."""
    columns = "source, partition, position, key, value, reason, ingested_at, batch_id"
    rest = f"order by ingested_at desc, source, partition, position limit {limit}"
    for batch in _query(lakehouse, columns, feed, rest):
        yield from batch.to_pylist()


def replay(feed: Feed, lakehouse: Root, clock: Clock) -> Replay:
    """Judge the rejects of a feed by its settings of now; land those that pass, under a new batch.

    Raise ConfigError for a format whose rejects cannot stand alone.
    """
    if feed.format not in _CHECKED_AS:
        raise feed.error("format", f"rows of {feed.format} files are replayed by correcting them")
    check = value_check(_CHECKED_AS[feed.format], feed.key)
    with _between_batches(feed, lakehouse) as bronze:
        rejects = _rejects(feed.name, lakehouse)
        decoder = None
        if isinstance(feed.source, KafkaOptions):
            rejects = rejects.filter(_of_finished_batches(bronze, rejects))
            decoder = open_decoder(feed, feed.source)
        if decoder is not None:
            decoder.check()
        return _replay(rejects, check, decoder, bronze, lakehouse, clock)


def _rejects(feed: str, lakehouse: Root) -> pa.Table:
    columns = ", ".join(REJECT_SCHEMA.names)
    batches = list(_query(lakehouse, columns, feed, "order by source, partition, position"))
    return pa.Table.from_batches(batches).cast(REJECT_SCHEMA) if batches else _NOTHING


def _replay(
    rejects: pa.Table,
    check: Check,
    decoder: Decoder | None,
    bronze: Bronze,
    lakehouse: Root,
    clock: Clock,
) -> Replay:
    feed = bronze.feed
    judged = [_judge(row, check, decoder) for row in rejects.to_pylist()]
    passed = pa.Table.from_pylist([row for row in judged if row], schema=REJECT_SCHEMA)
    still = rejects.num_rows - passed.num_rows
    if not passed.num_rows:
        return Replay(feed, bronze.batch_id, 0, still)
    new = passed.filter(pc.invert(_already_landed(lakehouse, feed, passed)))
    if new.num_rows:
        _land(bronze, new.select(ROW_SCHEMA.names), clock)
    _take_out(lakehouse, feed, passed)
    return Replay(feed, bronze.batch_id, new.num_rows, still)


@contextmanager
def _between_batches(feed: Feed, lakehouse: Root) -> Iterator[Bronze]:
    """Open the bronze table of a feed while no batch of files is under way.

    A new batch id would make a planned batch count as landed, so files keep their lock, and an
    unfinished batch comes first. Kafka needs no lock: a batch under way is refused and redone.
    """
    with ExitStack() as stack:
        if isinstance(feed.source, FileOptions):
            state = state_folder(lakehouse)
            stack.enter_context(FileSource(feed, feed.source, state).lock())
            ledger = stack.enter_context(closing(Ledger(state / "ledger.sqlite")))
            bronze = Bronze(lakehouse, feed.name)
            if ledger.planned_batches(feed.name, bronze.batch_id):
                raise feed.error("quarantine", "a batch is unfinished; `ingest run` it first")
        else:
            bronze = Bronze(lakehouse, feed.name)
        yield bronze


def _of_finished_batches(bronze: Bronze, rejects: pa.Table) -> pa.Array[Any]:
    """Tell which rejects lie below what the table says of the progress of their partition."""
    read: dict[tuple[str, int], int | None] = {}
    finished = []
    for source, partition, position in _addresses(rejects):
        if (source, partition) not in read:
            at = TopicPartition(source, partition)
            read[source, partition] = bronze.next_offset(at)
        offset = read[source, partition]
        finished.append(offset is not None and position < offset)
    return pa.array(finished, pa.bool_())


def _judge(row: dict[str, Any], check: Check, decoder: Decoder | None) -> dict[str, Any] | None:
    """Return a reject as the row that lands now; None where it is still one, or is a gap."""
    headers = dict(row["headers"] or ())
    key, value = (original_bytes(row[part], part, headers) for part in ("key", "value"))
    if decoder is not None and (key, value) != (None, None):
        given = [(n, original_bytes(text, n, headers)) for n, text in headers.items()]
        try:
            key, value, schemas = decoder(key, value, given)
        except DecodeError:
            return None
        for part in decoder.encodings:
            headers.pop(f"{part}_encoding", None)
        row |= {"headers": [*text_headers(schemas), *headers.items()]}
        row |= {
            part: None if text is None else text.decode()
            for part, text in (("key", key), ("value", value))
            if part in decoder.encodings
        }
    elif value is None:
        return None
    return row if value is None or check(value) is None else None


def _already_landed(lakehouse: Root, feed: str, rows: pa.Table) -> pa.Array[Any]:
    """Tell which of the rows an earlier replay landed before it was cut off."""
    table = DeltaTable(under(lakehouse, "bronze", feed))
    first, last = (pc_fn(rows.column("position")).as_py() for pc_fn in (pc.min, pc.max))
    sql = f"select source, partition, position from b where position between {first} and {last}"  # noqa: S608 - two integers
    landed = {
        tuple(row.values())
        for batch in QueryBuilder().register("b", table).execute(sql)
        for row in pa.record_batch(batch).to_pylist()
    }
    return pa.array([address in landed for address in _addresses(rows)], pa.bool_())


def _addresses(rows: pa.Table) -> Iterator[tuple[str, int, int]]:
    columns = (rows.column(name).to_pylist() for name in ("source", "partition", "position"))
    return zip(*columns, strict=True)


def _land(bronze: Bronze, rows: pa.Table, clock: Clock) -> None:
    for _ in range(MAX_CONFLICTS):
        bronze.refresh()
        try:
            bronze.append(rows.to_batches(), bronze.batch_id + 1, {}, clock())
        except ConflictError:  # a run landed meanwhile
            continue
        return
    raise ConflictError(f"{bronze.path}: {MAX_CONFLICTS} conflicts in a row; try again")


def _take_out(lakehouse: Root, feed: str, rows: pa.Table) -> None:
    table = DeltaTable(under(lakehouse, "quarantine"))
    addresses = list(_addresses(rows))
    for start in range(0, len(addresses), _ADDRESSES_PER_DELETE):
        some = " or ".join(
            f"(source = {_literal(source)} and partition = {partition} and position = {position})"
            for source, partition, position in addresses[start : start + _ADDRESSES_PER_DELETE]
        )
        table.delete(f"feed = {_literal(feed)} and ({some})")


def _query(lakehouse: Root, columns: str, feed: str | None, rest: str) -> Iterator[pa.RecordBatch]:
    path = under(lakehouse, "quarantine")
    if not DeltaTable.is_deltatable(path):
        return
    where = f"where feed = {_literal(feed)}" if feed else ""
    sql = f"select {columns} from q {where} {rest}"  # noqa: S608 - columns are ours, the feed quoted
    for batch in QueryBuilder().register("q", DeltaTable(path)).execute(sql):
        yield pa.record_batch(batch)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@click.group("quarantine")
def command() -> None:
    """Look at rejected records, and land them after a fix."""


@command.command("list")
@click.argument("feed", required=False)
@json_option
@lakehouse_option
def list_command(feed: str | None, as_json: bool, lakehouse: Root) -> None:
    """Count rejected records per feed and reason, of all feeds or of FEED."""
    rows = summary(lakehouse, feed)
    if as_json:
        _print_json({"rejected": [asdict(row) for row in rows]})
        return
    for row in rows:
        click.echo(f"{row.records:>9,}  {row.feed:<24}{row.reason}")
    if not rows:
        click.echo("nothing is in quarantine")


@command.command("show")
@click.argument("feed")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@json_option
@lakehouse_option
def show_command(feed: str, limit: int, as_json: bool, lakehouse: Root) -> None:
    """Show the newest rejected records of FEED: where they stand, why, and their text."""
    rows = list(records(lakehouse, feed, limit))
    if as_json:
        _print_json({"records": rows})
        return
    for row in rows:
        click.echo(f"{row['source']} {row['partition']}/{row['position']}: {row['reason']}")
        click.echo(f"    {row['value']}")
    if not rows:
        click.echo(f"nothing of feed '{feed}' is in quarantine")


@command.command("replay")
@click.argument("feed")
@json_option
@feeds_option
@lakehouse_option
def replay_command(feed: str, as_json: bool, feeds_file: Path, lakehouse: Root) -> None:
    """Judge the rejected records of FEED by its settings of now, and land those that pass.

    They keep their address and get a new batch, so that the models read them like any late record.

    Exit codes: 0 done (what still fails stays in quarantine), 1 it failed and can be tried again,
    2 a wrong setting.
    """
    try:
        (declared,) = load_feeds(feeds_file, environment(lakehouse), [feed])
        done = replay(declared, lakehouse, lambda: datetime.now(UTC))
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except FeedError as error:
        click.echo(f"feed '{feed}' failed: {error}", err=True)
        sys.exit(1)
    if as_json:
        _print_json(asdict(done))
    else:
        click.echo(f"{done.landed:,} landed, {done.still_rejected:,} still rejected")


def _print_json(content: object) -> None:
    click.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
