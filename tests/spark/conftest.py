"""One Spark and one Kafka for all tests here. What is missing skips them, unless REQUIRE_ALL=1."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.apache_spark import apache_spark
from tests.support.components import running
from tests.support.real_kafka import broker, kafka

__all__ = ["broker", "kafka"]


@pytest.fixture(scope="session")
def spark_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of Spark, running."""
    yield from running(apache_spark(tmp_path_factory.mktemp("spark")), "Apache Spark")


@pytest.fixture(scope="session")
def spark(spark_address: str) -> Iterator[Any]:
    """A session of Spark Connect, as serverless compute has it."""
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415 - may be missing
    except ImportError:
        if os.environ.get("REQUIRE_ALL") == "1":
            raise
        pytest.skip("needs pyspark-client: make brings the environment up to date")
    session = SparkSession.builder.remote(spark_address).getOrCreate()
    yield session
    session.stop()


@pytest.fixture
def lakehouse(tmp_path: Path) -> Path:
    return tmp_path / "lakehouse"
