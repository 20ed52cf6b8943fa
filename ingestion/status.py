"""What is landed of each feed, and what is waiting."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from deltalake import DeltaTable

from ingestion.bronze import LOCAL, Bronze, Quarantine
from ingestion.config import feed_names, load_feeds
from ingestion.errors import ConfigError
from ingestion.locations import Root, under
from ingestion.runner import describe, open_source


@dataclass(frozen=True)
class FeedStatus:
    """One feed: its last visible batch, its rows, and its lag where the source answers.

    `lag` counts offsets (`messages`) or `files` and `bytes`; None with the reason in `note`.
    `columns` are those seen in files, each with the batch in which it was new.
    """

    feed: str
    batch_id: int
    landed_rows: int
    rejected_rows: int
    last_commit_at: datetime | None
    lag: Mapping[str, int] | None
    note: str | None = None
    columns: Mapping[str, int] = field(default_factory=dict)

    @property
    def drift(self) -> str:
        """How many columns there are, and those that came after the first batch."""
        if not self.columns:
            return "-"
        first = min(self.columns.values())
        new = [f"+{name} (batch {batch})" for name, batch in self.columns.items() if batch > first]
        return ", ".join([str(len(self.columns)), *new])


def feed_statuses(feeds_file: Path, lakehouse: Root, env: Mapping[str, str]) -> list[FeedStatus]:
    """Return the state of every declared feed, without writing anything."""
    names = feed_names(feeds_file)
    quarantine = under(lakehouse, "quarantine")
    rejected = Quarantine(lakehouse).counts() if DeltaTable.is_deltatable(quarantine) else None
    return [
        _status(feeds_file, lakehouse, env, name, rejected[name] if rejected else 0)
        for name in names
    ]


def _status(
    feeds_file: Path, lakehouse: Root, env: Mapping[str, str], name: str, rejected: int
) -> FeedStatus:
    if not DeltaTable.is_deltatable(under(lakehouse, "bronze", name)):
        return FeedStatus(name, 0, 0, rejected, None, None, "nothing landed yet")
    bronze = Bronze(lakehouse, name)
    rows, committed_at = bronze.statistics()
    lag: Mapping[str, int] | None = None
    columns: Mapping[str, int] = {}
    note = None
    if bronze.landed_by != LOCAL:
        note = f"lag unknown: landed by {bronze.landed_by}"
        return FeedStatus(name, bronze.batch_id, rows, rejected, committed_at, lag, note, columns)
    try:
        source = open_source(load_feeds(feeds_file, env, [name])[0], lakehouse)
        try:
            columns = source.columns()
            lag = source.lag(bronze)
        finally:
            source.close()
    except ConfigError as error:
        note = f"lag unknown: {error.setting}: {error.fix}"
    except Exception as problem:
        # A source that does not answer is what a status must be able to show.
        note = f"lag unknown: {describe(problem)}"
    return FeedStatus(name, bronze.batch_id, rows, rejected, committed_at, lag, note, columns)
