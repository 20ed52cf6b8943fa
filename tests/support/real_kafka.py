"""Apache Kafka as a fixture, for the suites that want no stand-in."""

from collections.abc import Iterator

import pytest

from tests.support.apache_kafka import ApacheKafka, apache_kafka
from tests.support.components import running


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """Apache Kafka, running."""
    yield from running(apache_kafka(tmp_path_factory.mktemp("kafka")), "Apache Kafka")


@pytest.fixture(scope="session")
def broker(kafka: ApacheKafka) -> str:
    """The address of Apache Kafka: here the shared fixtures work on it, not on the stand-in."""
    return kafka.address
