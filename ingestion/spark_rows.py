"""What Spark's Python workers run: Arrow batches of a source in, judged records out.

Everything here is told by its arguments, and reads nothing but the files that it is to land: a
worker has neither the environment nor the settings of whoever began the stream.
"""

# pyarrow's types take parameters for the type checker only, not when the module runs.
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.bronze import TopicPartition
from ingestion.checks import ValueCheck
from ingestion.config import Feed, FileOptions, KafkaOptions
from ingestion.files import FileSource, FileUnusableError
from ingestion.ledger import FileState
from ingestion.messages import Columns, judge, open_decoder
from ingestion.records import REJECT_SCHEMA, Reject, reject_rows
from ingestion.storage import selector

# The file that was found is not there any more: its only record.
VANISHED = "the file vanished before it was read"
_FIRST = 1

# What stands before the path of a file.
SCHEME = "^[a-z]+:/+"


@dataclass(frozen=True)
class KafkaRows:
    """Judges the rows of Spark's Kafka source.

    `names`: the source under which partitions land, where it is not the topic.
    """

    feed: Feed
    names: Mapping[TopicPartition, str] = field(default_factory=dict)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield rows to land, and rejects with their reason."""
        assert isinstance(self.feed.source, KafkaOptions)  # noqa: S101 - narrows the type
        check = ValueCheck(self.feed.format, self.feed.key)
        decoder = open_decoder(self.feed, self.feed.source)
        if decoder is not None:
            decoder.check()
        for batch in batches:
            rows, rejects = judge(_columns(batch), check, self.names, decoder)
            yield from _judged(rows, rejects)


def _columns(batch: pa.RecordBatch) -> Columns:
    names = ("topic", "partition", "offset", "key", "value")
    lists: list[Any] = [batch.column(name).to_pylist() for name in names]
    topics, partitions, offsets, keys, values = lists
    headers = [
        None if found is None else [(header["key"], header["value"]) for header in found]
        for found in batch.column("headers").to_pylist()
    ]
    # Exact, since Kafka has milliseconds; where there is none it is -1.
    microseconds = np.asarray(batch.column("timestamp").cast(pa.int64()))
    milliseconds = np.floor_divide(microseconds, 1_000).tolist()
    return Columns(topics, partitions, offsets, keys, values, headers, milliseconds)


@dataclass(frozen=True)
class FileRows:
    """Reads and judges the files that Spark has found: their path, time and length."""

    feed: Feed

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield rows to land, and rejects with their reason."""
        options = self.feed.source
        assert isinstance(options, FileOptions) and isinstance(options.path, Path)  # noqa: S101 - likewise
        is_meant = selector(options.glob)
        source = FileSource(self.feed, options, Path())  # nothing is planned here
        root = f"{options.path}/"
        for batch in batches:
            for found in batch.to_pylist():
                path = local_path(found["path"])
                if is_meant(path.removeprefix(root)):
                    yield from self._read(source, path, found)

    def _read(
        self, source: FileSource, path: str, found: Mapping[str, Any]
    ) -> Iterator[pa.RecordBatch]:
        """Read a file in the state that it has now; it must not change meanwhile."""
        try:
            facts = Path(path).stat()
        except FileNotFoundError:
            milliseconds = int(found["modificationTime"].timestamp() * 1_000)
            size, mtime_ns = found["length"], milliseconds * 1_000_000
            headers = [("size", size), ("mtime_ns", mtime_ns), ("format", self.feed.format)]
            texts: Any = [(name, str(value)) for name, value in headers]
            yield reject_rows([Reject(path, 0, _FIRST, None, None, texts, milliseconds, VANISHED)])
            return
        state = FileState(path, facts.st_size, facts.st_mtime_ns)
        try:
            for rows, rejects, _ in source.read(state):
                yield from _judged(rows, rejects)
        except FileUnusableError as error:
            # Not a record of this batch yet: the batch fails, and is done again.
            raise OSError(str(error)) from error


def local_path(path: str) -> str:
    """Return the path of a file, which Spark names `file:/...` or `dbfs:/Volumes/...`."""
    return re.sub(SCHEME, "/", path)


def _judged(rows: pa.RecordBatch, rejects: list[Reject]) -> Iterator[pa.RecordBatch]:
    if rows.num_rows:
        reasons: pa.Array[Any] = pa.nulls(rows.num_rows, pa.string())
        yield pa.RecordBatch.from_arrays([*rows.columns, reasons], schema=REJECT_SCHEMA)
    if rejects:
        yield reject_rows(rejects)


def for_workers(feed: Feed) -> Feed:
    """Return a feed without what a worker does not need to know, such as the login to a broker."""
    if isinstance(feed.source, KafkaOptions):
        return replace(feed, source=replace(feed.source, settings={}, spark={}))
    return replace(feed, source=replace(feed.source, spark={}))
