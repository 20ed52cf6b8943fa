"""`ingest quarantine`: what was rejected, and a second judgement after a fix.

A replay lands first and takes out of quarantine after. A crash between the two leaves records in
both tables; the next replay finds their addresses in bronze and only takes them out. Rejects of a
batch that a run has not finished are left alone: the next run judges that batch again.
"""

# pyarrow's types take parameters for the type checker only, not when the module runs.
from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from ingestion.bronze import Bronze, Clock, Tables, TopicPartition, literal
from ingestion.checks import Check, ValueCheck
from ingestion.config import Feed, KafkaOptions, load_feeds
from ingestion.errors import ConfigError, DecodeError
from ingestion.files import FileSource
from ingestion.ledger import FileState
from ingestion.locations import Root, state_folder, under
from ingestion.messages import open_decoder
from ingestion.options import environment, feeds_option, json_option, lakehouse_option
from ingestion.records import (
    REJECT_SCHEMA,
    ROW_SCHEMA,
    original_bytes,
    text_headers,
)
from ingestion.replay import (
    COMMIT_ROWS,
    Address,
    Landing,
    Turn,
    addresses_of,
    alone,
    in_turn,
    replay_files,
    where,
)
from ingestion.runner import describe

if TYPE_CHECKING:
    from ingestion.encodings import Decoder

# The formats whose quarantined text is a whole record. A row of a CSV file is not: it needs the
# header of its file, so that is read again.
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
    """What a replay did: records landed now, and records that are still rejected.

    `changed`, `missing`: files that were to be read again, but are not as they were landed.
    """

    feed: str
    batch_id: int
    landed: int
    still_rejected: int
    changed: int = 0
    missing: int = 0


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

    Raise FeedError while another replay of the feed is running on this machine.
    """
    state = state_folder(lakehouse)
    with alone(feed.name, state):
        tables = Tables(lakehouse, feed.name, clock)
        if isinstance(feed.source, KafkaOptions):
            if (decoder := open_decoder(feed, feed.source)) is not None:
                decoder.check()
            rejects = _rejects(feed.name, lakehouse)
            # Needs no lock: a batch under way is refused and redone.
            rejects = rejects.filter(_of_finished_batches(tables.bronze, rejects))
            landing = _Retry(tables, lambda: in_turn(tables), lakehouse, feed.source)
            return _judge_again(feed, rejects, decoder, landing)
        source = FileSource(feed, feed.source, state)
        source.check()
        landing = _Retry(tables, lambda: source.between_batches(tables), lakehouse)
        with source.between_batches(tables):  # what was planned is landed first
            rejects = _rejects(feed.name, lakehouse)
            rejected = tables.quarantine.landed_files(
                f"feed = '{feed.name}'", tables.bronze.batch_id
            )
            states = {FileState(*file[:4]): None for file in rejected}
        if feed.format in _CHECKED_AS:
            return _judge_again(feed, rejects, None, landing)
        replay_files(states, source, landing)
        return landing.result(rejects.num_rows)


class _Retry(Landing):
    """Lands, of what is judged again, the rows that stand in quarantine, and takes them out."""

    def __init__(
        self, tables: Tables, turn: Turn, lakehouse: Root, kafka: KafkaOptions | None = None
    ) -> None:
        super().__init__(tables, turn, kafka)
        self._lakehouse, self._passed, self._taken_out = lakehouse, _NOTHING, 0

    def select(
        self, rows: pa.Table, rejects: pa.Table, landed: set[Address], rejected: set[Address]
    ) -> tuple[pa.Table, pa.Table]:
        self._passed = where(rows, lambda address: address in rejected)
        return where(self._passed, lambda address: address not in landed), _NOTHING

    def settle(self) -> None:
        _take_out(self._lakehouse, self.tables.bronze.feed, self._passed)
        self._taken_out += self._passed.num_rows

    def result(self, rejects: int) -> Replay:
        """Return what was done; `rejects`: how many there were."""
        self.tables.refresh()
        batch_id, still = self.tables.bronze.batch_id, rejects - self._taken_out
        done = self.done
        return Replay(done.feed, batch_id, done.landed, still, done.changed, done.missing)


def _rejects(feed: str, lakehouse: Root) -> pa.Table:
    columns = ", ".join(REJECT_SCHEMA.names)
    batches = list(_query(lakehouse, columns, feed, "order by source, partition, position"))
    return pa.Table.from_batches(batches).cast(REJECT_SCHEMA) if batches else _NOTHING


def _judge_again(feed: Feed, rejects: pa.Table, decoder: Decoder | None, landing: _Retry) -> Replay:
    """Judge rejects whose text is the whole record; land those that pass."""
    check = ValueCheck(_CHECKED_AS[feed.format], feed.key)
    for some in rejects.to_batches(COMMIT_ROWS):
        judged = [_judge(row, check, decoder) for row in some.to_pylist()]
        rows = [{name: row[name] for name in ROW_SCHEMA.names} for row in judged if row]
        at = TopicPartition(feed.name, 0)  # no matter: nothing of it is forgotten
        landing.add(at, pa.RecordBatch.from_pylist(rows, ROW_SCHEMA), [])
        landing.flush()
    return landing.result(rejects.num_rows)


def _of_finished_batches(bronze: Bronze, rejects: pa.Table) -> pa.Array[Any]:
    """Tell which rejects lie below what the table says of the progress of their partition."""
    read: dict[tuple[str, int], int | None] = {}
    finished = []
    for source, partition, position in addresses_of(rejects):
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


def _take_out(lakehouse: Root, feed: str, rows: pa.Table) -> None:
    table = DeltaTable(under(lakehouse, "quarantine"))
    addresses = list(addresses_of(rows))
    for start in range(0, len(addresses), _ADDRESSES_PER_DELETE):
        some = " or ".join(
            f"(source = {literal(source)} and partition = {partition} and position = {position})"
            for source, partition, position in addresses[start : start + _ADDRESSES_PER_DELETE]
        )
        table.delete(f"feed = {literal(feed)} and ({some})")


def _query(lakehouse: Root, columns: str, feed: str | None, rest: str) -> Iterator[pa.RecordBatch]:
    path = under(lakehouse, "quarantine")
    if not DeltaTable.is_deltatable(path):
        return
    where = f"where feed = {literal(feed)}" if feed else ""
    sql = f"select {columns} from q {where} {rest}"  # noqa: S608 - columns are ours, the feed quoted
    for batch in QueryBuilder().register("q", DeltaTable(path)).execute(sql):
        yield pa.record_batch(batch)


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

    Files of formats whose rows do not stand alone (csv, tsv, parquet) are read again. Those that
    are not as they were landed are said ("changed", "missing"); their rejects stay.

    Exit codes: 0 done (what still fails stays in quarantine), 1 it failed, 2 a wrong setting.
    """
    try:
        (declared,) = load_feeds(feeds_file, environment(lakehouse), [feed])
        done = replay(declared, lakehouse, lambda: datetime.now(UTC))
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except Exception as problem:
        click.echo(f"feed '{feed}' failed: {describe(problem)}", err=True)
        sys.exit(1)
    if as_json:
        _print_json(asdict(done))
        return
    files = "".join(f", {n:,} files {c}" for c in ("changed", "missing") if (n := getattr(done, c)))
    click.echo(f"{done.landed:,} landed, {done.still_rejected:,} still rejected{files}")


def _print_json(content: object) -> None:
    click.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
