"""What Spark is told of a feed, and the settings that it refuses. Needs no Spark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from ingestion import spark_source
from ingestion.bronze import TopicPartition
from ingestion.config import Feed, FileOptions, KafkaOptions, load_feeds
from ingestion.errors import ConfigError
from ingestion.spark_rows import VANISHED, FileRows, for_workers, local_path
from ingestion.spark_source import FileStream, KafkaStream, client_options

SERVERS = {"bootstrap.servers": "kafka:9092"}


class Reader:
    """Takes down what a stream's reader is told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def format(self, name: str) -> "Reader":
        self.told["format"] = name
        return self

    def schema(self, columns: str) -> "Reader":
        return self

    def options(self, **given: str) -> "Reader":
        self.told |= given
        return self

    def load(self, *path: str) -> "Reader":
        self.told["load"] = path
        return self

    def select(self, *columns: str) -> "Reader":
        self.told["select"] = columns
        return self


def kafka_feed(**options: Any) -> Feed:
    source = KafkaOptions(options.pop("topics", ("t",)), SERVERS, **options)
    return Feed("events", "json", source, file="feeds.yml")


def file_feed(path: Path, **options: Any) -> Feed:
    return Feed("visits", "ndjson", FileOptions(path, **options), file="feeds.yml")


@pytest.mark.parametrize(
    "options",
    [
        {"group": "g"},
        {"on_gap": "continue"},
        {"batch_bytes": 1},
        {"discovery_seconds": 1.0},
        {"stall_timeout_seconds": 1},
    ],
)
def test_a_setting_of_kafka_that_spark_cannot_obey_is_refused(options: dict[str, Any]) -> None:
    feed = kafka_feed(**options)
    (name,) = options
    with pytest.raises(ConfigError, match=f"kafka.{name}: has no meaning on Spark"):
        KafkaStream(feed, feed.source).check()  # type: ignore[arg-type]  # it is Kafka's


@pytest.mark.parametrize(
    "options", [{"on_change": "land_again"}, {"settle_seconds": 1.0}, {"marker": "_SUCCESS"}]
)
def test_a_setting_of_files_that_spark_cannot_obey_is_refused(
    options: dict[str, Any], tmp_path: Path
) -> None:
    feed = file_feed(tmp_path, **options)
    (name,) = options
    with pytest.raises(ConfigError, match=f"files.{name}: has no meaning on Spark"):
        FileStream(feed, feed.source).check()  # type: ignore[arg-type]  # it is of files


def test_files_in_an_object_store_are_asked_for_by_their_volume() -> None:
    source = FileOptions("s3://bucket/landing")
    feed = Feed("visits", "ndjson", source, file="feeds.yml")
    with pytest.raises(ConfigError, match="/Volumes/"):
        FileStream(feed, source).check()


def test_a_login_and_certificates_are_told_as_java_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
    for name in names:
        (tmp_path / name).write_text(f"content of {name}")
    settings = {
        **SERVERS,
        **{name: str(tmp_path / name) for name in names},
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "anna",
        "sasl.password": 'a"b\\c',
        "ssl.endpoint.identification.algorithm": "none",
        "queued.min.messages": "1",
    }
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    expected = {
        "kafka.bootstrap.servers": "kafka:9092",
        "kafka.security.protocol": "SASL_SSL",
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.truststore.certificates": "content of ssl.ca.location",
        "kafka.ssl.keystore.type": "PEM",
        "kafka.ssl.keystore.certificate.chain": "content of ssl.certificate.location",
        "kafka.ssl.keystore.key": "content of ssl.key.location",
        "kafka.ssl.endpoint.identification.algorithm": "",
        "kafka.sasl.mechanism": "SCRAM-SHA-512",
        "kafka.sasl.jaas.config": f'{module} required username="anna" password="a\\"b\\\\c";',
    }
    assert client_options(kafka_feed(), settings) == expected
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    login = client_options(kafka_feed(), settings)["kafka.sasl.jaas.config"]
    assert login.startswith(f"kafkashaded.{module} ")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"sasl.mechanism": "OAUTHBEARER"}, "sasl.mechanism"),
        ({"sasl.oauthbearer.config": "x"}, "sasl.oauthbearer.config"),
        ({"ssl.ca.location": "/nowhere"}, "ssl.ca.location"),
    ],
)
def test_a_setting_of_the_client_without_counterpart_is_named(
    settings: dict[str, str], name: str
) -> None:
    with pytest.raises(ConfigError, match=rf"kafka\.settings\.{name}"):
        client_options(kafka_feed(), settings)


def test_kafka_is_read_as_the_guarantees_need_it_and_otherwise_as_the_feed_says() -> None:
    feed = kafka_feed(topics=("a", "b"), batch_rows=7, spark={"minPartitions": "8"})
    assert isinstance(feed.source, KafkaOptions)
    stream, reader = KafkaStream(feed, feed.source), Reader()
    stream.partitions = [TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)]
    stream.reader(reader, {TopicPartition("a", 0): 5, TopicPartition("b", 0): 0})
    assert reader.told == {
        "format": "kafka",
        "kafka.bootstrap.servers": "kafka:9092",
        "subscribe": "a,b",
        "maxOffsetsPerTrigger": "7",
        "minPartitions": "8",
        # -2: a partition that came later is read from its beginning.
        "startingOffsets": '{"a":{"0":5,"1":-2},"b":{"0":0}}',
        "kafka.isolation.level": "read_committed",
        "kafka.allow.auto.create.topics": "false",
        "failOnDataLoss": "true",
        "includeHeaders": "true",
        "load": (),
    }


def test_a_pattern_leaves_out_the_topics_of_the_broker_itself() -> None:
    feed = kafka_feed(topics=(), pattern="bank|__b.*")
    assert isinstance(feed.source, KafkaOptions)
    reader = Reader()
    KafkaStream(feed, feed.source).reader(reader, {})
    assert reader.told["subscribePattern"] == "(?!__)(?:bank|__b.*)"
    assert reader.told["startingOffsets"] == "earliest"


def test_files_are_found_by_auto_loader_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = file_feed(tmp_path, batch_files=5, spark={"cloudFiles.useManagedFileEvents": "true"})
    assert isinstance(feed.source, FileOptions)
    reader = Reader()
    FileStream(feed, feed.source).reader(reader, {})
    assert (reader.told["format"], reader.told["maxFilesPerTrigger"]) == ("binaryFile", "5")
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    reader = Reader()
    FileStream(feed, feed.source).reader(reader, {})
    assert reader.told == {
        "format": "cloudFiles",
        "cloudFiles.format": "binaryFile",
        "cloudFiles.maxFilesPerTrigger": "5",
        "cloudFiles.useManagedFileEvents": "true",
        "recursiveFileLookup": "true",
        "load": (str(tmp_path),),
        "select": ("path", "modificationTime", "length"),
    }


@pytest.mark.parametrize("option", ["startingOffsets", "failOnDataLoss", "kafka.isolation.level"])
def test_an_option_that_the_guarantees_rest_on_is_refused(option: str, tmp_path: Path) -> None:
    kafka = {"topics": ["t"], "settings": SERVERS, "spark": {option: "x"}}
    feeds = {"events": {"kafka": kafka, "format": "json"}}
    file = tmp_path / "feeds.yml"
    file.write_text(yaml.safe_dump({"feeds": feeds}))
    with pytest.raises(ConfigError, match=rf"kafka\.spark\.{option}: is decided by the job"):
        load_feeds(file, {})
    kafka["spark"] = {"maxOffsetsPerTrigger": 5, "kafka.client.dns.lookup": True}
    file.write_text(yaml.safe_dump({"feeds": feeds}))
    (feed,) = load_feeds(file, {})
    told = {"maxOffsetsPerTrigger": "5", "kafka.client.dns.lookup": "true"}
    assert feed.source.spark == told


def test_workers_are_not_told_how_to_log_in() -> None:
    assert "kafka:9092" not in repr(for_workers(kafka_feed(spark={"kafka.x": "kafka:9092"})))


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ("file:/landing/a b%20#.csv", "/landing/a b%20#.csv"),
        ("file:///landing/a.csv", "/landing/a.csv"),
        ("dbfs:/Volumes/main/bronze/landing/a:b.csv", "/Volumes/main/bronze/landing/a:b.csv"),
        ("/Volumes/main/a.csv", "/Volumes/main/a.csv"),
    ],
)
def test_a_file_is_known_by_its_path_alone(named: str, path: str) -> None:
    assert local_path(named) == path


def found(*files: Path) -> Iterator[pa.RecordBatch]:
    rows = [{"path": f"file:{f}", "modificationTime": spark_time(), "length": 9} for f in files]
    yield pa.RecordBatch.from_pylist(rows)


def spark_time() -> Any:
    return pa.scalar(1_700_000_000_000_000, pa.timestamp("us", tz="UTC")).as_py()


def test_a_file_that_vanished_leaves_a_record_and_one_that_cannot_be_read_fails(
    tmp_path: Path,
) -> None:
    judge = FileRows(file_feed(tmp_path, glob="*.ndjson"))
    (batch,) = judge(found(tmp_path / "gone.ndjson", tmp_path / "gone.txt"))
    (record,) = batch.to_pylist()
    assert (record["source"], record["position"]) == (str(tmp_path / "gone.ndjson"), 1)
    assert (record["reason"], record["value"]) == (VANISHED, None)
    assert dict(record["headers"])["size"] == "9"
    (tmp_path / "folder.ndjson").mkdir()
    with pytest.raises(OSError, match=r"folder\.ndjson"):
        list(judge(found(tmp_path / "folder.ndjson")))


def test_it_is_auto_loader_only_on_databricks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)
    assert not spark_source.on_databricks()
