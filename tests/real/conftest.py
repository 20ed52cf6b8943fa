"""Real components as fixtures. What is missing skips its tests, unless REQUIRE_ALL=1."""

from pathlib import Path

import pytest

from tests.support.components import missing_programs
from tests.support.real_kafka import broker, kafka

__all__ = ["broker", "kafka"]


def pytest_report_header() -> str:
    """Say before the tests run what is missing for them, not only skip by skip."""
    missing = missing_programs()
    if not missing:
        return "real components: every program is installed"
    return f"real components: not installed (Debian's packages): {', '.join(missing)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the kills, the longest: each on a worker, they take half of the time."""
    items.sort(key=lambda item: "kills" not in item.nodeid)


@pytest.fixture
def lakehouse(tmp_path: Path) -> Path:
    return tmp_path / "lakehouse"
