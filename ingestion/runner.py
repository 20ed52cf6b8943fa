"""The run loop: check every selected feed, make the tables, then land feed after feed, once, or
all of them side by side until told to stop."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Protocol

from confluent_kafka import KafkaException

from ingestion.bronze import BatchResult, Bronze, Clock, Quarantine, Tables
from ingestion.config import Feed, FileOptions, KafkaOptions
from ingestion.files import FileSource
from ingestion.kafka import Follow, KafkaSource
from ingestion.locations import Root, state_folder
from ingestion.maintenance import Upkeep
from ingestion.metrics import Metrics
from ingestion.take_over import take_over_from_spark

log = logging.getLogger(__name__)

# Of all feeds that are followed together: what their Kafka batches may hold, one that is read and
# one that is committed for each.
FOLLOW_BYTES = 128 * 1024 * 1024
# A feed that failed is tried again after the first of these, then after twice as long, and so on.
RETRY_SECONDS = (1.0, 60.0)


# Makes this engine the one that lands a feed.
TakeOver = Callable[[Tables], object]
# Told how many of a feed's units (messages, files) are done now.
Advance = Callable[[int], object]


class Source(Protocol):
    """What the loop needs of a kind of source."""

    def check(self) -> None:
        """Raise ConfigError unless the source can be read. Write nothing."""

    def land(self, tables: Tables) -> Iterator[BatchResult]:
        """Land what is there now, exactly once; yield each batch when it is committed."""

    def lag(self, bronze: Bronze) -> dict[str, int]:
        """Return what is there and not landed yet, by unit."""

    def columns(self) -> Mapping[str, int]:
        """Return the columns that were seen in files, each with the batch in which it was new."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True)
class FeedResult:
    """What a run did for one feed; `batch_id` is the last visible one, landed now or before."""

    feed: str
    batch_id: int
    batches: int
    landed: int
    rejected: int
    reasons: Mapping[str, int]
    seconds: float
    error: str | None = None


def open_source(feed: Feed, lakehouse: Root) -> Source:
    """Return the source of a feed; nothing is connected or written yet."""
    if isinstance(feed.source, KafkaOptions):
        return KafkaSource(feed, feed.source)
    return FileSource(feed, feed.source, state_folder(lakehouse))


# Given a feed's name and how to ask what waits in it, by unit, returns what is told of progress.
Progress = Callable[[str, Callable[[], Mapping[str, int]]], AbstractContextManager[Advance]]


def no_progress(feed: str, waiting: object) -> AbstractContextManager[Advance]:
    """Show nothing."""
    return nullcontext(lambda done: None)


def run_once(
    feeds: Sequence[Feed],
    declared: Sequence[str],
    lakehouse: Root,
    clock: Clock,
    progress: Progress = no_progress,
    *,
    take_over: bool = False,
) -> list[FeedResult]:
    """Land everything that is there now for the given feeds, in their order.

    Raise ConfigError, with nothing written, unless all of them can be read. The tables of all
    `declared` feeds exist afterwards, so that views over them work. A feed that fails does not
    keep the others from landing: its result carries the error. `take_over`: also feeds that Spark
    has landed.
    """
    with _checked_sources(feeds, lakehouse) as sources:
        _make_tables(lakehouse, declared)
        return [
            _land_feed(
                source,
                Tables(lakehouse, feed.name, clock),
                progress,
                partial(take_over_from_spark, feed, lakehouse=lakehouse) if take_over else None,
            )
            for feed, source in zip(feeds, sources, strict=True)
        ]


def backfill(
    feed: Feed, folder: Root, glob: str, declared: Sequence[str], lakehouse: Root, clock: Clock
) -> FeedResult:
    """Land the files of another folder in the table of a feed of files, beside its live run.

    They are planned in the same ledger, so each is landed once, whoever finds it. Raise
    ConfigError, with nothing written, where that cannot be.
    """
    if not isinstance(feed.source, FileOptions):
        raise feed.error(
            "kafka", "only feeds of files are back-filled; declare one for the extract"
        )
    # An extract is complete: no marker, no waiting.
    source = replace(feed.source, path=folder, glob=glob, marker="", settle_seconds=0)
    (result,) = run_once([replace(feed, source=source)], declared, lakehouse, clock)
    return result


def run_continuous(
    feeds: Sequence[Feed],
    declared: Sequence[str],
    lakehouse: Root,
    clock: Clock,
    *,
    stop: threading.Event,
    metrics: Metrics,
    take_over: bool = False,
) -> list[FeedResult]:
    """Land what comes for the given feeds, each in a thread of its own, until `stop` is set.

    Raise ConfigError, with nothing written, unless all of them can be read at first. A feed that
    fails later is said and tried again, ever more seldom; a result carries an error only if its
    feed was failing at the end.
    """
    with _checked_sources(feeds, lakehouse):
        _make_tables(lakehouse, declared)
    upkeep = Upkeep(lakehouse, feeds, clock)
    with closing(upkeep), ThreadPoolExecutor(len(feeds)) as pool:
        workers = []
        for feed in feeds:
            follow = Follow(
                stop,
                feed.trigger_seconds,
                FOLLOW_BYTES // 2 // len(feeds),
                partial(metrics.lag, feed.name),
            )
            workers.append(
                pool.submit(
                    _follow_feed, feed, lakehouse, clock, follow, metrics, upkeep, take_over
                )
            )
        return [worker.result() for worker in workers]


def _make_tables(lakehouse: Root, declared: Sequence[str]) -> None:
    """Make the tables that do not exist yet, so that views over them work."""
    Quarantine(lakehouse)
    for name in declared:
        Bronze(lakehouse, name)


@contextmanager
def _checked_sources(feeds: Sequence[Feed], lakehouse: Root) -> Iterator[list[Source]]:
    sources: list[Source] = []
    try:
        for feed in feeds:
            sources.append(open_source(feed, lakehouse))
            sources[-1].check()
        yield sources
    finally:
        for source in sources:
            source.close()


class Tally:
    """What a run has done for a feed so far."""

    def __init__(self, feed: str) -> None:
        self.feed, self.started = feed, time.monotonic()
        self.batch_id = self.batches = self.landed = self.rejected = 0
        self.reasons: Counter[str] = Counter()
        self.error: str | None = None

    def add(self, batch: BatchResult) -> None:
        """Count and log a batch."""
        self.batch_id = batch.batch_id
        self.batches += 1
        self.landed += batch.landed
        self.rejected += batch.rejected
        self.reasons.update(batch.reasons)
        log.info(
            "feed %s: batch %d, landed %d, rejected %d",
            self.feed,
            batch.batch_id,
            batch.landed,
            batch.rejected,
            # asdict makes a Counter of a Counter's items.
            extra={"fields": {"feed": self.feed, **asdict(batch), "reasons": dict(batch.reasons)}},
        )

    def result(self) -> FeedResult:
        """Return what was done until now."""
        return FeedResult(
            feed=self.feed,
            batch_id=self.batch_id,
            batches=self.batches,
            landed=self.landed,
            rejected=self.rejected,
            reasons=dict(self.reasons),
            seconds=round(time.monotonic() - self.started, 3),
            error=self.error,
        )


def _land_feed(
    source: Source, tables: Tables, progress: Progress, take_over: TakeOver | None
) -> FeedResult:
    tally = Tally(tables.bronze.feed)
    try:
        if take_over is not None:
            take_over(tables)
        with progress(tally.feed, lambda: source.lag(tables.bronze)) as advance:
            for batch in source.land(tables):
                tally.add(batch)
                advance(batch.progress)
    except Exception as problem:
        # Whatever stops one feed must not stop the others; what it had committed stays.
        tally.error = describe(problem)
        log.debug("feed %s stopped", tally.feed, exc_info=True)
    tally.batch_id = tables.bronze.batch_id
    return tally.result()


def _follow_feed(
    feed: Feed,
    lakehouse: Root,
    clock: Clock,
    follow: Follow,
    metrics: Metrics,
    upkeep: Upkeep,
    take_over: bool,
) -> FeedResult:
    """Land what comes for one feed until `stop`; whatever fails is tried again from anew."""
    tally = Tally(feed.name)
    shortest, longest = RETRY_SECONDS
    wait = 0.0
    while not follow.stop.is_set():
        began = time.monotonic()
        source = open_source(feed, lakehouse)
        try:
            with metrics.up(feed.name):
                source.check()
                tables = Tables(lakehouse, feed.name, clock)
                if take_over:
                    take_over_from_spark(feed, tables, lakehouse)
                tally.batch_id = tables.bronze.batch_id
                for batch in _batches(source, tables, follow):
                    tally.add(batch)
                    metrics.add(feed.name, batch, clock())
                    upkeep.committed(feed.name, batch.rejected)
                tally.error = None
        except Exception as problem:
            tally.error = describe(problem)
            wait = shortest if time.monotonic() - began > wait else min(2 * wait, longest)
            log.error(
                "feed %s failed: %s; trying again in %g seconds", feed.name, tally.error, wait
            )
            log.debug("feed %s stopped", feed.name, exc_info=True)
            follow.stop.wait(wait)
        finally:
            source.close()
    return tally.result()


def _batches(source: Source, tables: Tables, follow: Follow) -> Iterator[BatchResult]:
    """Yield the batches of a feed until it says stop."""
    if isinstance(source, KafkaSource):
        yield from source.land(tables, follow)
        return
    while not follow.stop.is_set():
        for batch in source.land(tables):
            yield batch
            if follow.stop.is_set():
                return
        follow.stop.wait(follow.trigger_seconds)


def describe(problem: Exception) -> str:
    """Return an error as one line."""
    if isinstance(problem, KafkaException):
        return str(problem.args[0].str())
    text = " ".join(str(problem).split())
    return text or type(problem).__name__
