"""A table that another engine lands is left alone, by every command that would commit to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deltalake import DeltaTable
from ingestion_helpers import NOW, bronze_rows, file_feed, land, quarantine_rows

from ingestion import quarantine, runner
from ingestion.bronze import LANDED_BY
from ingestion.config import Feed
from ingestion.errors import FeedError
from ingestion.replay import replay
from ingestion.status import feed_statuses


@pytest.fixture(params=["spark", "copy_into"])
def feed(request: pytest.FixtureRequest, landing: Path, lakehouse: Path) -> Feed:
    """A feed that has landed two rows and a reject, and has more to land, but not by us."""
    (landing / "a.ndjson").write_text('{"id":1}\nno json\n{"id":2}\n')
    feed = file_feed(landing)
    land(feed, lakehouse)
    table = DeltaTable(lakehouse / "bronze" / "visits")
    table.alter.set_table_properties({LANDED_BY: request.param}, raise_if_not_exists=False)
    (landing / "b.ndjson").write_text('{"id":3}\nno json\n')
    return feed


@pytest.fixture(autouse=True)
def _nothing_changes(feed: Feed, lakehouse: Path) -> Iterator[None]:
    yield
    assert [row["position"] for row in bronze_rows(lakehouse)] == [1, 3]
    assert len(quarantine_rows(lakehouse)) == 1


def test_a_run_is_refused(feed: Feed, lakehouse: Path) -> None:
    assert "is landed by" in (land(feed, lakehouse, fail=True).error or "")


def test_a_back_fill_is_refused(feed: Feed, landing: Path, lakehouse: Path) -> None:
    result = runner.backfill(feed, landing, "*", ["visits"], lakehouse, lambda: NOW)
    assert "is landed by" in (result.error or "")


def test_replays_are_refused(feed: Feed, lakehouse: Path) -> None:
    with pytest.raises(FeedError, match="is landed by"):
        quarantine.replay(feed, lakehouse, lambda: NOW)
    with pytest.raises(FeedError, match="is landed by"):
        replay(feed, (None, None), lakehouse, lambda: NOW)


def test_status_knows_no_lag(feed: Feed, landing: Path, lakehouse: Path, tmp_path: Path) -> None:
    declared = {"files": {"path": str(landing)}, "format": "ndjson"}
    (tmp_path / "feeds.yml").write_text(yaml.safe_dump({"feeds": {"visits": declared}}))
    (status,) = feed_statuses(tmp_path / "feeds.yml", lakehouse, {})
    assert (status.landed_rows, status.lag) == (2, None)
    assert status.note is not None and "landed by" in status.note
