"""Fixtures of several suites: the stand-in broker, and topics on it."""

import os
from collections.abc import Callable, Iterator, Sequence

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from ingestion.standin_broker import StandinUnavailableError, standin_broker

# A message to produce: value, or (key, value).
Message = bytes | None | tuple[bytes | None, bytes | None]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the stand-in broker."""
    running = standin_broker(tmp_path_factory.mktemp("broker"))
    try:
        address = running.__enter__()
    except StandinUnavailableError as error:
        if os.environ.get("REQUIRE_ALL") == "1":
            raise
        pytest.skip(f"Kafka tests need a broker: {error}")
    try:
        yield address
    finally:
        running.__exit__(None, None, None)


@pytest.fixture
def new_topic(broker: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Create a topic of its own for a test, with messages: one list per partition."""
    client = AdminClient({"bootstrap.servers": broker})
    made: list[str] = []

    def create(*partitions: Sequence[Message], name: str | None = None) -> str:
        topic = name or f"t{abs(hash(request.node.nodeid))}-{len(made)}"
        for future in client.create_topics([NewTopic(topic, len(partitions) or 1, 1)]).values():
            future.result()
        made.append(topic)
        for partition, messages in enumerate(partitions):
            produce(broker, topic, messages, partition)
        return topic

    yield create
    if made:
        for future in client.delete_topics(made).values():
            future.exception()


def produce(broker: str, topic: str, messages: Sequence[Message], partition: int = 0) -> None:
    """Append messages to a partition."""
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 1})
    for message in messages:
        key, value = message if isinstance(message, tuple) else (None, message)
        producer.produce(topic, value=value, key=key, partition=partition)
    assert producer.flush(10) == 0


@pytest.fixture
def send(broker: str) -> Callable[..., None]:
    """Append messages to a partition of a topic."""
    return lambda topic, messages, partition=0: produce(broker, topic, messages, partition)
