"""The feeds landed by Spark Structured Streaming, for more than one machine can land.

A stream's checkpoint plans each micro-batch before it is landed and ends it afterwards; one that
was interrupted is landed again as it was planned, under the same number. So `batch_id` is that
number, counted on from the batch id that the table had when the stream was begun, and every write
is an application transaction of that version, which Delta does not repeat.

Only what Spark Connect has is used, since serverless compute has nothing else. pyspark is imported
where it is needed: who lands without Spark does not have it.
"""

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import click
import orjson

from ingestion.bronze import (
    BRONZE_SETTINGS,
    CLAIM,
    LANDED_BY,
    LOCAL,
    QUARANTINE_SETTINGS,
    SPARK,
    BatchResult,
    Bronze,
    Quarantine,
    TopicPartition,
)
from ingestion.config import Feed
from ingestion.errors import FeedError
from ingestion.locations import Root, under
from ingestion.places import address_of, identity_key
from ingestion.runner import RETRY_SECONDS, FeedResult, Tally
from ingestion.spark_rows import SCHEME
from ingestion.spark_source import Judge, KafkaStream, Stream, on_databricks, open_stream

log = logging.getLogger(__name__)


_ROW = (
    "source string, partition int, position bigint, key string, value string,"
    " headers map<string, string>, source_timestamp timestamp"
)
_JUDGED = f"{_ROW}, reason string"
_BRONZE = f"{_ROW}, ingested_at timestamp, batch_id bigint"
_QUARANTINE = f"{_BRONZE}, feed string, reason string"
_ADDRESS = ["source", "partition", "position"]

# Of a batch that was interrupted: what was rejected then and would land now is not lost.
JUDGED_OTHERWISE = "rejected by the settings that its batch began with; it can be replayed"

# A commit of ours is looked for among so many: others may come behind it, such as a compaction.
_RECENT = 20
_THREADS = 8
_LOOK_SECONDS = 0.2
# In the trace of a worker, or of Spark itself: what an error says.
_ERROR = re.compile(r"^(?:Caused by: )?[\w.$]*(?:Error|Exception): +(\S.*)$", re.M)
_SAID = 500


@dataclass(frozen=True)
class Claim:
    """What a stream goes on from, written down once: its number is in its checkpoint's name.

    `base`: the batch id that the table had; `starts`: the offsets at which partitions ("topic/0")
    were begun; `ids`: of the topics; `names`: the source under which partitions land, where it is
    not the topic; `knows_files`: files that were landed before are listed beside the checkpoint.
    """

    checkpoint: str
    base: int = 0
    starts: Mapping[str, int] = field(default_factory=dict)
    ids: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    knows_files: bool = False


@dataclass(frozen=True)
class Places:
    """Where a feed lands."""

    feed: str
    bronze: str
    quarantine: str
    checkpoint: str

    @property
    def known_files(self) -> str:
        """Where the files are listed that were landed before the stream was begun."""
        return f"{self.checkpoint}-files"


# --- a batch --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Landing:
    """Lands the micro-batches of a stream; Spark calls it in a process of its own."""

    places: Places
    base: int
    judge: Judge
    has_known_files: bool = False

    def __call__(self, batch: Any, epoch: int) -> None:
        """Land one micro-batch: rows, then rejects; each once, however often it is called."""
        from pyspark.sql import functions as f  # noqa: PLC0415 - only where Spark is

        batch_id = self.base + epoch + 1
        if self.has_known_files:
            known = batch.sparkSession.read.parquet(self.places.known_files)
            batch = batch.withColumn("source", f.regexp_replace("path", SCHEME, "/"))
            batch = batch.join(known, "source", "left_anti")
        judged = batch.mapInArrow(self.judge, _JUDGED)
        rejected = self.land_rows(judged, batch_id)
        if rejected != 0:
            self.land_rejects(judged, batch_id, is_repeated=rejected is None)

    def land_rows(self, judged: Any, batch_id: int) -> int | None:
        """Land what is accepted; return how much is rejected, None where it was landed before."""
        from pyspark.sql import Observation  # noqa: PLC0415 - only where Spark is
        from pyspark.sql import functions as f  # noqa: PLC0415 - only where Spark is

        seen, mark = Observation(), f"batch {batch_id} ({uuid4()})"
        rows = judged.observe(seen, f.count("reason").alias("rejected"))
        rows = _stamped(rows.where("reason is null").drop("reason"), batch_id)
        self._append(rows, self.places.bronze, batch_id, mark)
        recent = f"describe history {_table(self.places.bronze)} limit {_RECENT}"
        commits = batch_commits(judged.sparkSession, recent)
        # Nothing was seen, and may be waited for in vain, where Delta knew the transaction.
        return int(seen.get["rejected"]) if mark in commits else None

    def land_rejects(self, judged: Any, batch_id: int, *, is_repeated: bool) -> None:
        """Land what is rejected. Of a batch that is repeated that is all that bronze does not have.

        So each record is in one of the tables, also if the settings have changed meanwhile.
        """
        from pyspark.sql import functions as f  # noqa: PLC0415 - only where Spark is

        if is_repeated:
            bronze = judged.sparkSession.read.format("delta").load(self.places.bronze)
            landed = bronze.where(f.col("batch_id") == batch_id).select(*_ADDRESS)
            judged = judged.join(landed, _ADDRESS, "left_anti").select(*_columns(_JUDGED))
            reason = f.coalesce("reason", f.lit(JUDGED_OTHERWISE))
            judged = judged.withColumn("reason", reason)
        rejects = _stamped(judged.where("reason is not null"), batch_id)
        rejects = rejects.withColumn("feed", f.lit(self.places.feed))
        self._append(rejects, self.places.quarantine, batch_id, f"batch {batch_id}")

    def _append(self, rows: Any, path: str, batch_id: int, mark: str) -> None:
        options = {
            "txnAppId": f"ingest:{self.places.feed}",
            "txnVersion": str(batch_id),
            "userMetadata": mark,
        }
        rows.write.format("delta").mode("append").options(**options).save(path)


def batch_commits(spark: Any, history: str) -> set[str]:
    """Return what recent commits of a table say of themselves."""
    return {row["userMetadata"] for row in spark.sql(history).collect()}


def _stamped(rows: Any, batch_id: int) -> Any:
    from pyspark.sql import functions as f  # noqa: PLC0415 - only where Spark is

    rows = rows.withColumn("ingested_at", f.current_timestamp())
    return rows.withColumn("batch_id", f.lit(batch_id).cast("bigint"))


def _columns(schema: str) -> list[str]:
    return [column.split()[0] for column in re.split(r", (?![^<]*>)", schema)]


def _table(path: str) -> str:
    return "delta.`{}`".format(path.replace("`", "``"))


# --- tables ---------------------------------------------------------------------------------------


class Catalog:
    """The tables as Spark sees them."""

    def __init__(self, spark: Any, lakehouse: Root) -> None:
        """Nothing is read yet."""
        self.spark, self.lakehouse = spark, lakehouse
        # Spark may run elsewhere, in another folder.
        self._root = str(lakehouse.absolute()) if isinstance(lakehouse, Path) else lakehouse
        self.quarantine = under(self._root, "quarantine")

    def bronze(self, feed: str) -> str:
        """Return the place of a feed's table."""
        return under(self._root, "bronze", feed)

    def places(self, feed: str, claim: Claim) -> Places:
        """Return the places of a stream."""
        checkpoint = under(self._root, "checkpoints", feed, claim.checkpoint)
        return Places(feed, self.bronze(feed), self.quarantine, checkpoint)

    def make_tables(self, declared: Sequence[str]) -> None:
        """Make the tables that do not exist yet, as the other engine does."""
        tables = [(self.bronze(name), _BRONZE, BRONZE_SETTINGS) for name in declared]
        tables.append((self.quarantine, _QUARANTINE, QUARANTINE_SETTINGS))
        with ThreadPoolExecutor(_THREADS) as pool:
            for made in [pool.submit(self._make, *table) for table in tables]:
                made.result()

    def _make(self, path: str, schema: str, settings: Mapping[str, str]) -> None:
        if on_databricks():  # there it may be on, and the other engine does not write such tables
            settings = {**settings, "delta.enableDeletionVectors": "false"}
        empty = self.spark.createDataFrame([], schema)
        empty.write.format("delta").mode("ignore").options(**settings).save(path)

    def properties(self, feed: str) -> Mapping[str, str]:
        """Return the properties of a feed's table."""
        (row,) = self.spark.sql(f"describe detail {_table(self.bronze(feed))}").collect()
        return dict(row["properties"])

    def is_new(self, feed: str) -> bool:
        """Tell whether nothing was done with a feed's table since it was made."""
        history = f"describe history {_table(self.bronze(feed))} limit 1"
        return bool(self.spark.sql(history).collect()[0]["version"] == 0)

    def last_batch(self, feed: str) -> int:
        """Return the highest batch of a feed that has rows in either table."""
        # Delta knows the first from its log.
        sql = (
            f"select max(batch_id) as last from {_table(self.bronze(feed))} union all"  # noqa: S608 - our names
            f" select max(batch_id) from {_table(self.quarantine)} where feed = '{feed}'"
        )
        return max(int(row["last"] or 0) for row in self.spark.sql(sql).collect())

    def landed(self, feed: str, after: int) -> list[BatchResult]:
        """Return the batches of a feed behind one, as they are in the tables."""
        sql = (
            f"select batch_id, cast(null as string) as reason, count(*) as records"  # noqa: S608 - no data
            f" from {_table(self.bronze(feed))} where batch_id > {after} group by batch_id"
            " union all"
            f" select batch_id, reason, count(*) from {_table(self.quarantine)}"
            f" where feed = '{feed}' and batch_id > {after} group by batch_id, reason"
        )
        rows: dict[int, int] = {}
        reasons: dict[int, Counter[str]] = {}
        for row in self.spark.sql(sql).collect():
            found = reasons.setdefault(row["batch_id"], Counter())
            if row["reason"] is None:
                rows[row["batch_id"]] = row["records"]
            else:
                found[row["reason"]] = row["records"]
        return [
            BatchResult(n, rows.get(n, 0), reasons[n].total(), reasons[n]) for n in sorted(reasons)
        ]

    def positions(self, feed: str) -> dict[TopicPartition, int]:
        """Return, by source and partition, the position behind the last record in the tables."""
        address = "select source, partition, position from"
        sql = (
            "select source, partition, max(position) + 1 as next from ("  # noqa: S608 - no data
            f"{address} {_table(self.bronze(feed))} union all {address} {_table(self.quarantine)}"
            f" where feed = '{feed}') group by source, partition"
        )
        rows = self.spark.sql(sql).collect()
        return {TopicPartition(row["source"], row["partition"]): row["next"] for row in rows}

    def has_checkpoint(self, places: Places) -> bool:
        """Tell whether a stream has planned a batch, by its checkpoint."""
        from pyspark.errors import AnalysisException  # noqa: PLC0415 - only where Spark is

        try:
            self.spark.read.text(f"{places.checkpoint}/offsets").limit(1).collect()
        except AnalysisException:
            return False
        return True

    def claim(self, feed: str, claim: Claim) -> None:
        """Say in a feed's table that a stream lands it; whoever is about to commit is refused."""
        text = orjson.dumps(asdict(claim)).decode()  # names of topics: nothing to escape
        settings = f"'{LANDED_BY}' = '{SPARK}', '{CLAIM}' = '{text}'"
        self.spark.sql(f"alter table {_table(self.bronze(feed))} set tblproperties ({settings})")

    def list_known_files(self, places: Places, files: Iterable[str]) -> bool:
        """List files that are not to be landed; tell whether there are any."""
        rows = [(file,) for file in files]
        if rows:
            listed = self.spark.createDataFrame(rows, "source string")
            listed.write.mode("overwrite").parquet(places.known_files)
        return bool(rows)


# --- who lands a table ----------------------------------------------------------------------------


def claimed(catalog: Catalog, feed: Feed, stream: Stream, *, take_over: bool) -> Claim:
    """Return what the stream of a feed goes on from; at first, say in its table that it lands it.

    Raise FeedError where something else lands it and the stream is not to take over.
    """
    properties = catalog.properties(feed.name)
    landed_by = properties.get(LANDED_BY, LOCAL)
    if landed_by == SPARK:
        claim = Claim(**orjson.loads(properties[CLAIM]))
        places = catalog.places(feed.name, claim)
        if catalog.last_batch(feed.name) <= claim.base or catalog.has_checkpoint(places):
            return _with_new_topics(catalog, feed, stream, claim)
        if not take_over:
            raise FeedError(
                f"its checkpoint {places.checkpoint} is gone: restore it, or give --take-over to go"
                " on behind what is in the tables"
            )
    elif landed_by != LOCAL:
        raise FeedError(f"its table is landed by {landed_by}; declare a feed of another name")
    elif catalog.is_new(feed.name):
        return _begin(catalog, feed, stream, None)
    elif not take_over:
        raise FeedError(
            "its table is landed without Spark; stop that, then give --take-over once to go on"
            " where it ends"
        )
    return _begin(catalog, feed, stream, Bronze(catalog.lakehouse, feed.name))


def _with_new_topics(catalog: Catalog, feed: Feed, stream: Stream, claim: Claim) -> Claim:
    """Keep the ids of topics that were found since. Raise FeedError where one has changed."""
    ids = stream.ids
    for topic, topic_id in claim.ids.items():
        if ids.get(topic, topic_id) != topic_id:
            raise FeedError(
                f"topic '{topic}' was deleted and created again (it has another id); land it"
                " without Spark, with --take-over and on_gap: continue, then take over again"
            )
    if ids.keys() <= claim.ids.keys():
        return claim
    claim = replace(claim, ids={**ids, **claim.ids})
    catalog.claim(feed.name, claim)
    return claim


def _begin(catalog: Catalog, feed: Feed, stream: Stream, bronze: Bronze | None) -> Claim:
    """Begin a stream behind what a table holds, or in a new one (None)."""
    base, known = 0, {}
    if bronze is not None:
        quarantine = Quarantine(catalog.lakehouse)
        base, known = bronze.batch_id, catalog.positions(feed.name)
        if quarantine.batch_id(feed.name) > base:
            raise FeedError("its last batch was not completed; run it once without Spark first")
    claim = Claim(f"{base}-{uuid4().hex[:8]}", base)
    if isinstance(stream, KafkaStream):
        landed, ids, names = _landed_offsets(stream, bronze, known)
        starts = stream.starts(landed, ids, is_begun=base > 0)
        claim = replace(claim, ids=dict(stream.ids), names=_texts(names), starts=_texts(starts))
    elif known:
        files = {at.topic for at in known}
        listed = catalog.list_known_files(catalog.places(feed.name, claim), files)
        claim = replace(claim, knows_files=listed)
    catalog.claim(feed.name, claim)
    log.info("feed %s: a stream lands it from batch %d on", feed.name, base + 1)
    return claim


def _landed_offsets(
    stream: KafkaStream, bronze: Bronze | None, known: Mapping[TopicPartition, int]
) -> tuple[dict[TopicPartition, int], dict[str, int], dict[TopicPartition, str]]:
    """Return up to where partitions were landed, the topics' ids, and the sources' other names."""
    landed: dict[TopicPartition, int] = {}
    ids: dict[str, int] = {}
    names: dict[TopicPartition, str] = {}
    if bronze is None:
        return landed, dict(stream.ids), names
    for at in stream.partitions:
        address = address_of(at, bronze)
        offsets = [bronze.next_offset(address), known.get(address)]
        if any(offset is not None for offset in offsets):
            landed[at] = max(offset for offset in offsets if offset is not None)
        if (topic_id := bronze.next_offset(identity_key(address))) is not None:
            ids[at.topic] = topic_id
        if address != at:
            names[at] = address.topic
    return landed, ids, names


Value = TypeVar("Value")


def _texts(by_partition: Mapping[TopicPartition, Value]) -> dict[str, Value]:
    return {f"{at.topic}/{at.partition}": value for at, value in by_partition.items()}


def _partitions(by_text: Mapping[str, Value]) -> dict[TopicPartition, Value]:
    parts = ((text.rpartition("/"), value) for text, value in by_text.items())
    return {TopicPartition(topic, int(number)): value for (topic, _, number), value in parts}


# --- runs -----------------------------------------------------------------------------------------


class _Run:
    """One feed while it is landed."""

    def __init__(self, catalog: Catalog, feed: Feed, stream: Stream, *, take_over: bool) -> None:
        self.feed, self._catalog, self._stream = feed, catalog, stream
        self._take_over = take_over
        self.tally = Tally(feed.name)
        self._query: Any = None
        self._claim: Claim | None = None
        self._seen = -1
        self.again_at, self._wait = 0.0, 0.0

    def begin(self, trigger: Mapping[str, Any]) -> None:
        """Start the stream."""
        name, catalog = self.feed.name, self._catalog
        claim = claimed(catalog, self.feed, self._stream, take_over=self._take_over)
        self._take_over = False
        if self._claim is None:
            self.tally.batch_id = max(claim.base, catalog.last_batch(name))
        self._claim = claim
        places = catalog.places(name, claim)
        judge = self._stream.judge(_partitions(claim.names))
        landing = Landing(places, claim.base, judge, claim.knows_files)
        reader = self._stream.reader(catalog.spark.readStream, _partitions(claim.starts))
        writer = reader.writeStream.foreachBatch(landing).queryName(f"ingest_{name}")
        writer = writer.option("checkpointLocation", places.checkpoint).trigger(**trigger)
        self._query = writer.start()

    def end(self) -> None:
        """Wait for the stream's end; raise what ended it."""
        self._query.awaitTermination()

    def stop(self) -> None:
        """End the stream, also in the middle of a batch: that costs nothing but the batch."""
        if self._query is not None:
            self._query.stop()
            self._query = None

    def count(self) -> None:
        """Count and log what was landed since, by what is in the tables."""
        if self._claim is not None:
            for batch in self._catalog.landed(self.feed.name, self.tally.batch_id):
                self.tally.add(batch)

    def fail(self, problem: Exception) -> None:
        """Note why the stream has ended."""
        self.tally.error = self._gap() or said(problem)
        log.debug("feed %s stopped", self.feed.name, exc_info=problem)

    def _gap(self) -> str:
        """Return what is missing where the stream was to go on, which Spark hides among others."""
        if self._claim is None or not isinstance(self._stream, KafkaStream):
            return ""
        names = {at: TopicPartition(n, at[1]) for at, n in _partitions(self._claim.names).items()}
        known = self._catalog.positions(self.feed.name)
        ends = {at: known.get(names.get(at, at)) for at in self._stream.partitions}
        return self._stream.gap({at: end for at, end in ends.items() if end is not None})

    def follow(self) -> None:
        """See what the stream has landed; begin it where it does not run."""
        if self._query is None:
            self.begin(
                {"processingTime": f"{round(self.feed.trigger_seconds * 1000)} milliseconds"}
            )
            return
        if (error := self._query.exception()) is not None:
            raise error
        progress = self._query.lastProgress
        if progress is not None and progress["batchId"] != self._seen:
            self._seen = progress["batchId"]
            self.tally.error, self._wait = None, 0.0
            self.count()

    def rest(self) -> float:
        """End what has failed; it is begun again after some seconds, which are returned."""
        shortest, longest = RETRY_SECONDS
        self.stop()
        self._wait = min(max(2 * self._wait, shortest), longest)
        self.again_at = time.monotonic() + self._wait
        return self._wait


def run_once(
    feeds: Sequence[Feed],
    declared: Sequence[str],
    lakehouse: Root,
    spark: Any,
    *,
    take_over: bool = False,
) -> list[FeedResult]:
    """Land everything that is there now for the given feeds, side by side, as streams that end.

    Otherwise as runner.run_once.
    """
    with _opened(feeds, declared, lakehouse, spark, take_over=take_over) as runs:
        begun = []
        for run in runs:
            try:
                run.begin({"availableNow": True})
                begun.append(run)
            except Exception as problem:  # must not stop the other feeds
                run.fail(problem)
        for run in begun:
            try:
                run.end()
            except Exception as problem:  # likewise
                run.fail(problem)
            run.count()
    return [run.tally.result() for run in runs]


def run_continuous(
    feeds: Sequence[Feed],
    declared: Sequence[str],
    lakehouse: Root,
    spark: Any,
    *,
    stop: threading.Event,
    take_over: bool = False,
) -> list[FeedResult]:
    """Land what comes for the given feeds until `stop` is set, as runner.run_continuous."""
    with _opened(feeds, declared, lakehouse, spark, take_over=take_over) as runs:
        try:
            while not stop.is_set():
                for run in runs:
                    _follow(run)
                stop.wait(_LOOK_SECONDS)
        finally:
            for run in runs:
                run.stop()
        for run in runs:
            run.count()
    return [run.tally.result() for run in runs]


def _follow(run: _Run) -> None:
    if time.monotonic() < run.again_at:
        return
    try:
        run.follow()
    except Exception as problem:  # is said and tried again, while the others go on
        run.fail(problem)
        wait = run.rest()
        name, error = run.feed.name, run.tally.error
        log.error("feed %s failed: %s; trying again in %g seconds", name, error, wait)


@contextmanager
def _opened(
    feeds: Sequence[Feed],
    declared: Sequence[str],
    lakehouse: Root,
    spark: Any,
    *,
    take_over: bool,
) -> Iterator[list[_Run]]:
    """Check all feeds, then make the tables. Raise ConfigError with nothing written."""
    with ExitStack() as stack:
        streams = []
        for feed in feeds:
            streams.append(open_stream(feed))
            stack.callback(streams[-1].close)
            streams[-1].check()
        catalog = Catalog(spark, lakehouse)
        catalog.make_tables(declared)
        yield [
            _Run(catalog, feed, stream, take_over=take_over)
            for feed, stream in zip(feeds, streams, strict=True)
        ]


def session() -> Any:
    """Return the session of whoever runs this: the job's on Databricks, else SPARK_REMOTE's.

    Raise UsageError where pyspark is missing.
    """
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415 - only where Spark is
    except ImportError as error:
        raise click.UsageError("--engine spark needs pyspark, which Databricks has") from error
    return SparkSession.builder.getOrCreate()


def said(problem: Exception) -> str:
    """Return an error as one line; of one that comes with traces, what the innermost says."""
    text = str(problem)
    found = _ERROR.findall(text) if "\n" in text else []
    return " ".join((found[-1] if found else text).split())[:_SAID] or type(problem).__name__
