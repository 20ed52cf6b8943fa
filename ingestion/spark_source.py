"""What Spark is told to read for a feed, and which settings of a feed it cannot obey."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow as pa

from ingestion.broker import Broker
from ingestion.bronze import TopicPartition
from ingestion.config import Feed, FileOptions, KafkaOptions
from ingestion.errors import FeedError
from ingestion.messages import open_decoder
from ingestion.places import find_gap, start_offset
from ingestion.spark_rows import FileRows, KafkaRows, for_workers
from ingestion.storage import storage

# What runs in Python's workers.
Judge = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

# Settings that mean something to one process only; a feed that sets one would not be obeyed.
_WITHOUT_MEANING: Mapping[type, Mapping[str, str]] = {
    KafkaOptions: {
        "group": "Spark shares the partitions among its own tasks; remove it",
        "on_gap": "Spark can stop, but record no gap; remove it, or land the gap without Spark",
        "batch_bytes": "Spark's batches are bounded by batch_rows; remove it",
        "discovery_seconds": "Spark looks for new partitions with every batch; remove it",
        "stall_timeout_seconds": "Spark waits as kafka.spark's kafka.request.timeout.ms says;"
        " remove it",
    },
    FileOptions: {
        "on_change": "Spark reads a file once; remove it, or land the feed without Spark",
        "settle_seconds": "Spark takes a file as soon as it is there; remove it, and have files"
        " renamed when they are complete",
        "marker": "Spark looks for no marker; remove it, and have files renamed when they are"
        " complete",
    },
}
# librdkafka's settings that Kafka's Java client has under the same name.
_SAME_NAME = (
    *("security.protocol", "client.id", "client.rack", "ssl.endpoint.identification.algorithm"),
    *("fetch.min.bytes", "fetch.max.bytes", "max.partition.fetch.bytes"),
)
# Those that bound the memory of one client, or its logs: nothing to obey.
_LEFT_OUT = (
    *("receive.message.max.bytes", "message.max.bytes", "fetch.queue.backoff.ms"),
    *("queued.min.messages", "queued.max.messages.kbytes", "log_level", "debug"),
)
_EARLIEST = -2  # as the Kafka source of Spark names it
_LOGIN = ("sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password")
_CERTIFICATES = {
    "ssl.ca.location": ("truststore", "truststore.certificates"),
    "ssl.certificate.location": ("keystore", "keystore.certificate.chain"),
    "ssl.key.location": ("keystore", "keystore.key"),
}
_CLASSES = {"PLAIN": "plain.PlainLoginModule", "SCRAM": "scram.ScramLoginModule"}


class Stream(Protocol):
    """What landing needs of a kind of source."""

    @property
    def ids(self) -> Mapping[str, int]:
        """The ids of topics; known after `check`."""

    def check(self) -> None:
        """Raise ConfigError unless the source can be read as the feed says. Write nothing."""

    def reader(self, stream: Any, starts: Mapping[TopicPartition, int]) -> Any:
        """Return the rows to judge, of a `spark.readStream`. `starts`: where it is to begin."""

    def judge(self, names: Mapping[TopicPartition, str]) -> Judge:
        """Return what judges them."""

    def close(self) -> None:
        """Let go of connections."""


def open_stream(feed: Feed) -> Stream:
    """Return the stream of a feed; nothing is connected yet."""
    if isinstance(feed.source, KafkaOptions):
        return KafkaStream(feed, feed.source)
    return FileStream(feed, feed.source)


def on_databricks() -> bool:
    """Tell whether this is a runtime of Databricks, which has more than Spark."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def _check_settings(feed: Feed) -> None:
    kind, prefix = type(feed.source), "kafka" if isinstance(feed.source, KafkaOptions) else "files"
    defaults = {each.name: each.default for each in fields(kind)}
    for name, fix in _WITHOUT_MEANING[kind].items():
        if getattr(feed.source, name) != defaults[name]:
            raise feed.error(f"{prefix}.{name}", f"has no meaning on Spark: {fix}")


class KafkaStream:
    """A Kafka feed as a stream."""

    def __init__(self, feed: Feed, options: KafkaOptions) -> None:
        """Take the settings; nothing is connected before `check`."""
        self.feed, self.options = feed, options
        self._connected: Broker | None = None
        self.partitions: list[TopicPartition] = []
        self.ids: Mapping[str, int] = {}

    def check(self) -> None:
        """Connect, and find the topics' partitions. Raise ConfigError where that fails."""
        _check_settings(self.feed)
        client_options(self.feed, self.options.settings)
        self._connected = Broker(self.feed, self.options)
        self.partitions = self._connected.partitions()
        if (decoder := open_decoder(self.feed, self.options)) is not None:
            decoder.check()
        self.ids = self._connected.topic_ids(self.partitions)

    def close(self) -> None:
        """Disconnect."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    def starts(
        self, landed: Mapping[TopicPartition, int], ids: Mapping[str, int], *, is_begun: bool
    ) -> dict[TopicPartition, int]:
        """Return where each partition is begun: behind what was landed, or as the feed says.

        `ids` are those of the topics that were landed. Raise FeedError where records are missing.
        """
        broker = self._connected
        assert broker is not None  # noqa: S101 - `check` comes first
        found = {}
        begun = {at.topic for at in landed}
        for at in self.partitions:
            low, high = broker.watermarks(at)
            if at in landed:
                gap = find_gap(landed[at], low, high, ids.get(at.topic), self.ids.get(at.topic))
                if gap is not None:
                    raise FeedError(f"{at.topic}/{at.partition}: {gap.reason}")
                found[at] = landed[at]
                continue
            is_later = is_begun and self.options.pattern and at.topic not in self.options.start
            start = self.options.start.get(at.topic, self.options.start.get("*", "earliest"))
            if at.topic in begun or is_later:
                start = "earliest"
            found[at] = start_offset(start, at.partition, low, high, partial(broker.offset_at, at))
            if not low <= found[at] <= high:
                where = f"{at.topic}/{at.partition} holds offsets {low} to {high}"
                raise self.feed.error("kafka.start", f"{where}, not {found[at]}")
        return found

    def gap(self, ends: Mapping[TopicPartition, int]) -> str:
        """Return what the broker does not have any more of what follows these offsets."""
        broker = self._connected
        assert broker is not None  # noqa: S101 - `check` comes first
        for at, end in ends.items():
            if (gap := find_gap(end, *broker.watermarks(at), None, None)) is not None:
                return f"{at.topic}/{at.partition}: {gap.reason}"
        return ""

    def reader(self, stream: Any, starts: Mapping[TopicPartition, int]) -> Any:
        """Return the messages; `starts` is used where the checkpoint is new."""
        options, by_topic = self.options, dict[str, dict[str, int]]()
        for at in self.partitions:  # what has come since the claim is read whole
            by_topic.setdefault(at.topic, {})[str(at.partition)] = starts.get(at, _EARLIEST)
        if options.pattern is None:
            chosen = {"subscribe": ",".join(options.topics)}
        else:  # names that begin with __ are the broker's own
            chosen = {"subscribePattern": f"(?!__)(?:{options.pattern})"}
        if options.batch_rows != KafkaOptions.batch_rows:
            chosen["maxOffsetsPerTrigger"] = str(options.batch_rows)
        given = {
            **client_options(self.feed, options.settings),
            **chosen,
            **options.spark,
            "startingOffsets": orjson.dumps(by_topic).decode() if by_topic else "earliest",
            "kafka.isolation.level": "read_committed",
            "kafka.allow.auto.create.topics": "false",
            "failOnDataLoss": "true",
            "includeHeaders": "true",
        }
        return stream.format("kafka").options(**given).load()

    def judge(self, names: Mapping[TopicPartition, str]) -> Judge:
        """Return what judges messages."""
        return KafkaRows(for_workers(self.feed), dict(names))


def client_options(feed: Feed, settings: Mapping[str, str]) -> dict[str, str]:
    """Return librdkafka's settings as those of Kafka's Java client, which Spark uses.

    Raise ConfigError for one that it has not.
    """
    options = {}
    for name, value in settings.items():
        if name == "bootstrap.servers" or name in _SAME_NAME:
            options[f"kafka.{name}"] = value
        elif name in _CERTIFICATES:
            store, place = _CERTIFICATES[name]
            options[f"kafka.ssl.{store}.type"] = "PEM"
            options[f"kafka.ssl.{place}"] = _content(feed, name, value)
        elif name == "ssl.key.password":
            options["kafka.ssl.key.password"] = value
        elif name not in _LEFT_OUT and name not in _LOGIN:
            fix = "has no counterpart for Spark; give Spark's own under kafka.spark, and remove it"
            raise feed.error(f"kafka.settings.{name}", fix)
    if options.get("kafka.ssl.endpoint.identification.algorithm") == "none":
        options["kafka.ssl.endpoint.identification.algorithm"] = ""
    return options | _login(feed, settings)


def _login(feed: Feed, settings: Mapping[str, str]) -> dict[str, str]:
    mechanism = settings.get("sasl.mechanism", settings.get("sasl.mechanisms"))
    if mechanism is None:
        return {}
    module = _CLASSES.get(mechanism.split("-")[0])
    if module is None:
        fix = f"{mechanism} has to be set up under kafka.spark; remove it here"
        raise feed.error("kafka.settings.sasl.mechanism", fix)
    # Databricks has the client under a name of its own.
    shaded = "kafkashaded." if on_databricks() else ""
    name, password = (_quoted(settings.get(f"sasl.{n}", "")) for n in ("username", "password"))
    login = f"{shaded}org.apache.kafka.common.security.{module} required"
    return {
        "kafka.sasl.mechanism": mechanism,
        "kafka.sasl.jaas.config": f"{login} username={name} password={password};",
    }


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _content(feed: Feed, setting: str, path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise feed.error(f"kafka.settings.{setting}", f"cannot be read: {error.strerror}") from None


class FileStream:
    """A feed of files as a stream: Auto Loader on Databricks, elsewhere Spark's own source."""

    def __init__(self, feed: Feed, options: FileOptions) -> None:
        """Take the settings; nothing is looked at before `check`."""
        self.feed, self.options = feed, options
        self.ids: Mapping[str, int] = {}

    def check(self) -> None:
        """Raise ConfigError where the files cannot be listed."""
        _check_settings(self.feed)
        if not isinstance(self.options.path, Path):
            fix = "Spark reads files through a Unity Catalog volume; give its folder, /Volumes/..."
            raise self.feed.error("files.path", fix)
        if fault := storage(self.options.path).fault():
            raise self.feed.error("files.path", fault)

    def close(self) -> None:
        """Nothing is kept open."""

    def reader(self, stream: Any, starts: Mapping[TopicPartition, int]) -> Any:
        """Return the files that are new; their content is read by whoever judges them."""
        options, limits = self.options, {}
        if on_databricks():
            stream = stream.format("cloudFiles")
            limits["cloudFiles.format"] = "binaryFile"
            prefix = "cloudFiles."
        else:
            columns = "path string, modificationTime timestamp, length bigint, content binary"
            stream = stream.format("binaryFile").schema(columns)
            prefix = ""
        if options.batch_files != FileOptions.batch_files:
            limits[f"{prefix}maxFilesPerTrigger"] = str(options.batch_files)
        if options.batch_bytes != FileOptions.batch_bytes:
            limits[f"{prefix}maxBytesPerTrigger"] = str(options.batch_bytes)
        given = {**limits, **options.spark, "recursiveFileLookup": "true"}
        found = stream.options(**given).load(str(options.path))
        return found.select("path", "modificationTime", "length")

    def judge(self, names: Mapping[TopicPartition, str]) -> Judge:
        """Return what reads and judges files."""
        return FileRows(for_workers(self.feed))
