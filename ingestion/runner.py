"""The run loop: check every selected feed, make the tables, then land feed after feed."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from confluent_kafka import KafkaException

from ingestion.bronze import BatchResult, Bronze, Clock, Quarantine, Tables
from ingestion.config import Feed, KafkaOptions
from ingestion.files import FileSource
from ingestion.kafka import KafkaSource

log = logging.getLogger(__name__)

# Beside the tables in the lakehouse: the ledger, the locks, and what a large batch spills.
STATE_FOLDER = "ingest"


class Source(Protocol):
    """What the loop needs of a kind of source."""

    def check(self) -> None:
        """Raise ConfigError unless the source can be read. Write nothing."""

    def land(self, tables: Tables) -> Iterator[BatchResult]:
        """Land what is there now, exactly once; yield each batch when it is committed."""

    def lag(self, bronze: Bronze) -> dict[str, int]:
        """Return what is there and not landed yet, by unit."""

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


def open_source(feed: Feed, lakehouse: Path) -> Source:
    """Return the source of a feed; nothing is connected or written yet."""
    state = lakehouse / STATE_FOLDER
    if isinstance(feed.source, KafkaOptions):
        return KafkaSource(feed, feed.source, state)
    return FileSource(feed, feed.source, state)


def run_once(
    feeds: Sequence[Feed], declared: Sequence[str], lakehouse: Path, clock: Clock
) -> list[FeedResult]:
    """Land everything that is there now for the given feeds, in their order.

    Raise ConfigError, with nothing written, unless all of them can be read. The tables of all
    `declared` feeds exist afterwards, so that views over them work. A feed that fails does not
    keep the others from landing: its result carries the error.
    """
    with _checked_sources(feeds, lakehouse) as sources:
        quarantine = Quarantine(lakehouse)
        bronze = {name: Bronze(lakehouse, name) for name in declared}
        return [
            _land_feed(source, Tables(bronze[feed.name], quarantine, clock))
            for feed, source in zip(feeds, sources, strict=True)
        ]


@contextmanager
def _checked_sources(feeds: Sequence[Feed], lakehouse: Path) -> Iterator[list[Source]]:
    sources: list[Source] = []
    try:
        for feed in feeds:
            sources.append(open_source(feed, lakehouse))
            sources[-1].check()
        yield sources
    finally:
        for source in sources:
            source.close()


def _land_feed(source: Source, tables: Tables) -> FeedResult:
    feed = tables.bronze.feed
    started = time.monotonic()
    batches: list[BatchResult] = []
    error = None
    try:
        for batch in source.land(tables):
            batches.append(batch)
            log.info(
                "feed %s: batch %d, landed %d, rejected %d",
                feed,
                batch.batch_id,
                batch.landed,
                batch.rejected,
            )
    except Exception as problem:
        # Whatever stops one feed must not stop the others; what it had committed stays.
        error = describe(problem)
        log.debug("feed %s stopped", feed, exc_info=True)
    return FeedResult(
        feed=feed,
        batch_id=tables.bronze.batch_id,
        batches=len(batches),
        landed=sum(b.landed for b in batches),
        rejected=sum(b.rejected for b in batches),
        reasons=dict(sum((b.reasons for b in batches), Counter[str]())),
        seconds=round(time.monotonic() - started, 3),
        error=error,
    )


def describe(problem: Exception) -> str:
    """Return an error as one line."""
    if isinstance(problem, KafkaException):
        return str(problem.args[0].str())
    text = " ".join(str(problem).split())
    return text or type(problem).__name__
