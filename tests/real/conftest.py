"""Real components as fixtures. What is missing skips its tests, unless REQUIRE_ALL=1."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.apache_kafka import ApacheKafka, apache_kafka
from tests.support.components import missing_programs, running


def pytest_report_header() -> str:
    """Say before the tests run what is missing for them, not only skip by skip."""
    missing = missing_programs()
    if not missing:
        return "real components: every program is installed"
    return f"real components: not installed (Debian's packages): {', '.join(missing)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the kills, the longest: each on a worker, they take half of the time."""
    items.sort(key=lambda item: "kills" not in item.nodeid)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """Apache Kafka, running."""
    yield from running(apache_kafka(tmp_path_factory.mktemp("kafka")), "Apache Kafka")


@pytest.fixture(scope="session")
def broker(kafka: ApacheKafka) -> str:
    """The address of Apache Kafka: here the shared fixtures work on it, not on the stand-in."""
    return kafka.address


@pytest.fixture
def lakehouse(tmp_path: Path) -> Path:
    return tmp_path / "lakehouse"
