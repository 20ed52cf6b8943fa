"""Where the simulator writes: a landing folder for files; Kafka, or a folder, for topics."""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from ingestion.simulate.records import TOPICS, Record, VendorFile


class SinkError(Exception):
    """Something could not be written; the message says what and where."""


class TopicWriter(Protocol):
    """Takes the records of the topics; complete only after `close`."""

    def write(self, records: Iterable[Record]) -> None:
        """Take some records."""

    def close(self, *, failed: bool) -> None:
        """Finish, or give up after a failure."""


class Sink:
    """Vendors' files to a landing folder and topics to a writer, as one context manager."""

    def __init__(self, landing: Path, topics: TopicWriter) -> None:
        self._landing = landing
        self._topics = topics
        self.records = topics.write

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._topics.close(failed=kind is not None)

    def file(self, file: VendorFile) -> None:
        """Write a vendor's file: whoever watches the folder sees all of it or nothing.

        Its modified time is its arrival, so that the same bytes carry the same time.
        """
        target = self._landing / file.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.tmp")
            temporary.write_bytes(file.content)
            os.utime(temporary, ns=(file.arrival_us * 1000, file.arrival_us * 1000))
            temporary.replace(target)
        except OSError as error:
            raise SinkError(f"cannot write {target}: {error.strerror}") from error


class JsonLines:
    """One `<topic>.jsonl` per topic in a folder: key, value and timestamp_ms per line.

    A value that is not UTF-8 is written as `value_base64`. With `append` what is there is kept,
    otherwise the files replace those of an earlier run when all is written.
    """

    def __init__(self, folder: Path, *, append: bool = False) -> None:
        self._paths = {feed: folder / f"{topic}.jsonl" for feed, topic in TOPICS.items()}
        self._append = append
        self._files: dict[str, BinaryIO] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for feed, path in self._paths.items():
                target = path if append else _temporary(path)
                self._files[feed] = target.open("ab" if append else "wb", buffering=1 << 18)
        except OSError as error:
            raise SinkError(f"cannot write topics to {folder}: {error.strerror}") from error

    def write(self, records: Iterable[Record]) -> None:
        """Take some records."""
        for record in records:
            self._files[record[0]].write(json_line(record))

    def close(self, *, failed: bool) -> None:
        """Close the files and, unless writing failed, give them their names."""
        for feed, file in self._files.items():
            file.close()
            path = self._paths[feed]
            if self._append:
                continue
            if failed:
                _temporary(path).unlink()
            else:
                _temporary(path).replace(path)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def json_line(record: Record) -> bytes:
    """A record as one line of JSON."""
    _, key, value, _, _, arrival_us, _, _, _ = record
    line: dict[str, str | int | None]
    if isinstance(value, bytes):
        text = base64.b64encode(value).decode()
        line = {"key": key, "value_base64": text, "timestamp_ms": arrival_us // 1000}
    else:
        line = {"key": key, "value": value, "timestamp_ms": arrival_us // 1000}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def partition_of(entity: str, partitions: int) -> int:
    """The partition of an entity's records: the same on every machine and in every run."""
    return zlib.crc32(entity.encode()) % partitions


class Kafka:
    """The topics of a Kafka cluster; missing ones are created with `partitions` partitions.

    Raises `SinkError` at once when no broker answers within `timeout_s` seconds.
    """

    def __init__(
        self, bootstrap_servers: str, *, partitions: int = 2, timeout_s: float = 5.0
    ) -> None:
        self._servers = bootstrap_servers
        self._timeout_s = timeout_s
        self._partitions = self._create_topics(partitions)
        self._failure: KafkaError | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                # a retry must neither repeat a record nor change the order
                "enable.idempotence": True,
                "linger.ms": 20,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 200_000,
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
                "log_level": 0,
            }
        )

    def _create_topics(self, partitions: int) -> dict[str, int]:
        """Create what is missing; returns the number of partitions of each feed's topic."""
        admin = AdminClient({"bootstrap.servers": self._servers, "log_level": 0})
        try:
            existing = admin.list_topics(timeout=self._timeout_s).topics
            counts = {
                feed: len(existing[topic].partitions) if topic in existing else 0
                for feed, topic in TOPICS.items()
            }
            # the records carry their own, older times: without this a broker would expire them
            config = {"retention.ms": "-1"}
            missing = [
                NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
                for feed, topic in TOPICS.items()
                if not counts[feed]
            ]
            if missing:
                for future in admin.create_topics(missing).values():
                    future.result(timeout=self._timeout_s)
        except KafkaException as error:
            raise SinkError(f"Kafka at {self._servers}: {error.args[0].str()}") from error
        return {feed: count or partitions for feed, count in counts.items()}

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._failure = self._failure or error

    def write(self, records: Iterable[Record]) -> None:
        """Queue some records; errors of earlier ones come up here or in `close`."""
        for record in records:
            self._queue(record)

    def _queue(self, record: Record) -> None:
        partition = partition_of(record.entity, self._partitions[record.feed])
        arguments: dict[str, Any] = {
            "key": record.key,
            "value": record.value,
            "partition": partition,
            "timestamp": record.arrival_us // 1000,
        }
        while True:
            try:
                self._producer.produce(TOPICS[record.feed], **arguments)
                break
            except BufferError:
                self._producer.poll(0.1)
                self._check()
            except KafkaException as error:
                raise SinkError(f"Kafka at {self._servers}: {error.args[0].str()}") from error

    def _check(self) -> None:
        if self._failure is not None:
            raise SinkError(f"Kafka at {self._servers}: {self._failure.str()}")

    def close(self, *, failed: bool) -> None:
        """Wait until the broker has everything."""
        left = self._producer.flush(self._timeout_s if failed else 60.0)
        if not failed:
            self._check()
            if left:
                raise SinkError(f"Kafka at {self._servers}: {left} records were not taken")
