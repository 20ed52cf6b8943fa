"""Real components as fixtures. What is missing skips its tests, unless REQUIRE_ALL=1."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.apache_kafka import ApacheKafka, apache_kafka
from tests.support.components import UnavailableError, missing_programs

T = TypeVar("T")


def pytest_report_header() -> str:
    """Say before the tests run what is missing for them, not only skip by skip."""
    missing = missing_programs()
    if not missing:
        return "real components: every program is installed"
    return f"real components: not installed (Debian's packages): {', '.join(missing)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the kills, the longest: each on a worker, they take half of the time."""
    items.sort(key=lambda item: "kills" not in item.nodeid)


def running(component: AbstractContextManager[T], name: str) -> Iterator[T]:
    """Enter a component for as long as a fixture lives, or skip."""
    try:
        value = component.__enter__()
    except UnavailableError as error:
        if os.environ.get("REQUIRE_ALL") == "1":
            raise
        pytest.skip(f"needs {name}: {error}")
    try:
        yield value
    finally:
        component.__exit__(None, None, None)


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
