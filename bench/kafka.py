"""Apache Kafka for the benchmarks: a broker, full topics, and the settings of the job's client."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin import NewTopic as TopicSpec  # type: ignore[attr-defined]  # no __all__

from ingestion.config import load_feeds
from ingestion.kafka import KafkaSource
from tests.support.apache_kafka import apache_kafka


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """Run Apache Kafka; yield its address."""
    data = folder / "broker"
    data.mkdir()
    with apache_kafka(data) as running:
        yield running.address


def create(address: str, topic: str, partitions: int) -> None:
    """Create a topic."""
    client = AdminClient({"bootstrap.servers": address})
    client.create_topics([TopicSpec(topic, partitions, 1)])[topic].result()


def fill(address: str, topic: str, messages: Iterable[bytes], partitions: int) -> None:
    """Produce messages, dealt out over the partitions; return when the broker has them."""
    settings = {"linger.ms": 50, "batch.size": 1_000_000, "log_level": 0}
    producer = Producer({"bootstrap.servers": address, **settings})
    for number, message in enumerate(messages):
        while True:
            try:
                producer.produce(topic, message, partition=number % partitions)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("the broker does not take the messages")


class _CapturedError(Exception):
    """Carries the settings that a client was given."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings


def client_settings(feeds: Path, lakehouse: Path) -> dict[str, Any]:
    """Return the settings of the client that the job makes for the only feed of a file."""

    def capture(settings: dict[str, Any], **_: object) -> NoReturn:
        raise _CapturedError(settings)

    (feed,) = load_feeds(feeds, {}, None)
    with mock.patch("ingestion.broker.Consumer", capture):
        try:
            KafkaSource(feed, feed.source).check()  # type: ignore[arg-type]  # a Kafka feed
        except _CapturedError as captured:
            values = captured.settings.items()
            return {name: value for name, value in values if not callable(value)}
    raise RuntimeError("the job made no client")
