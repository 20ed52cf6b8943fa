"""Going on, without Spark, with a table that a stream of Spark has landed."""

import logging
from pathlib import Path
from typing import Any

import obstore
import orjson
from obstore.store import from_url

from ingestion.bronze import CLAIM, SPARK, Tables, TopicPartition
from ingestion.config import Feed, KafkaOptions
from ingestion.errors import FeedError
from ingestion.locations import Root, under
from ingestion.places import identity_key

log = logging.getLogger(__name__)


def take_over_from_spark(feed: Feed, tables: Tables, lakehouse: Root) -> None:
    """Make this engine the one that lands a feed, where the stream's last batch has ended.

    The offsets that the stream had reached are committed before the table says so: whatever ends
    this in between, the stream or this engine can go on. Files that were landed are in the tables.
    """
    bronze = tables.bronze
    if bronze.landed_by != SPARK:
        return
    claim = orjson.loads(bronze.properties[CLAIM])
    checkpoint = under(lakehouse, "checkpoints", feed.name, claim["checkpoint"])
    planned, ended = (_numbers(checkpoint, folder) for folder in ("offsets", "commits"))
    if planned - ended:
        raise FeedError(
            "the last batch of its stream has not ended; run it once with --engine spark first"
        )
    offsets: dict[TopicPartition, int] = {}
    if isinstance(feed.source, KafkaOptions):
        reached = dict(claim["starts"])
        if ended:
            reached |= _offsets(checkpoint, max(ended))
        for text, offset in reached.items():
            topic, _, partition = text.rpartition("/")
            address = TopicPartition(claim["names"].get(text, topic), int(partition))
            offsets[address] = offset
            if topic in claim["ids"]:
                offsets[identity_key(address)] = claim["ids"][topic]
    bronze.take_over(offsets)
    log.info("feed %s: landed without Spark behind batch %d", feed.name, bronze.batch_id)


def _numbers(checkpoint: str, folder: str) -> set[int]:
    """Return the batches that a checkpoint has planned, or those that have ended."""
    place = under(checkpoint, folder)
    if "://" in place:
        paths = [found["path"] for part in obstore.list(_store(place)) for found in part]
    else:
        paths = [path.name for path in Path(place).glob("*")]
    return {int(path) for path in paths if path.isdecimal()}


def _offsets(checkpoint: str, batch: int) -> dict[str, int]:
    """Return the offsets at which a batch has ended, by "topic/0"."""
    place = under(checkpoint, "offsets")
    if "://" in place:
        content = bytes(obstore.get(_store(place), str(batch)).bytes())
    else:
        content = (Path(place) / str(batch)).read_bytes()
    # A version, what is common to all sources, then each source.
    _, _, source = content.splitlines()
    topics: dict[str, dict[str, int]] = orjson.loads(source)
    return {f"{topic}/{n}": offset for topic, by in topics.items() for n, offset in by.items()}


def _store(url: str) -> Any:
    return from_url(url)
