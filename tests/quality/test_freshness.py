"""`dbt source freshness` says of every feed whether it is alive."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.lakehouse import FEEDS, Lakehouse


@pytest.fixture
def lakehouse(tmp_path: Path) -> Lakehouse:
    """Every feed has just brought something, but card transactions are three days old."""
    lakehouse = Lakehouse(tmp_path)
    for feed in FEEDS:
        age = timedelta(days=3 if feed == "card_transactions" else 0, minutes=5)
        lakehouse.land(feed, ["{}"], batch_id=1, landed_at=datetime.now(UTC) - age)
    return lakehouse


def test_source_freshness_tells_a_dead_feed_from_those_that_are_alive(
    lakehouse: Lakehouse,
) -> None:
    done: Any = lakehouse.dbt("source", "freshness", check=False)
    assert not done.success
    statuses = {
        result.node.name: str(result.status)
        for result in done.result
        if result.node.resource_type == "source"
    }
    assert statuses == {feed: "error" if feed == "card_transactions" else "pass" for feed in FEEDS}
