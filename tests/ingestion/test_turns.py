"""Several processes commit to one feed: each in its turn, and only what nobody else has read."""

import fcntl
from pathlib import Path

import pytest
from ingestion_helpers import NOW

from ingestion import bronze
from ingestion.bronze import Tables, TopicPartition
from ingestion.errors import ConflictError
from ingestion.records import Reject, reject_rows

AT, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)
FRESH = {AT: (None, 0)}


@pytest.fixture
def tables(lakehouse: Path) -> Tables:
    (lakehouse / "ingest").mkdir(parents=True)
    return Tables(lakehouse, "events", lambda: NOW)


def test_a_partition_that_stands_where_it_stood_is_committed(tables: Tables) -> None:
    with tables.in_turn(FRESH):
        tables.bronze.append([], 1, {AT: 5}, NOW)
    with tables.in_turn({AT: (5, 0)}):
        tables.bronze.append([], 2, {AT: 7}, NOW)
    assert tables.bronze.next_offset(AT) == 7


def test_a_partition_that_another_process_has_advanced_is_not_committed(
    tables: Tables, lakehouse: Path
) -> None:
    other = Tables(lakehouse, "events", lambda: NOW)
    with other.in_turn(FRESH):
        other.bronze.append([], 1, {AT: 5}, NOW)
    with pytest.raises(ConflictError, match="t/0 was read by another"), tables.in_turn(FRESH):
        raise AssertionError("not reached")
    with tables.in_turn({OTHER: (None, 0)}):  # another partition is nobody else's
        tables.bronze.append([], 2, {OTHER: 3}, NOW)


def test_rejects_of_a_batch_that_another_process_has_not_finished_are_seen(
    tables: Tables, lakehouse: Path
) -> None:
    other = Tables(lakehouse, "events", lambda: NOW)
    reject = Reject("t", 0, 2, None, "x", [], None, "bad")
    other.quarantine.append([reject_rows([reject])], "events", 1, {AT: 5}, NOW)
    with pytest.raises(ConflictError, match="t/0 was read by another"), tables.in_turn(FRESH):
        raise AssertionError("not reached")
    with tables.in_turn({AT: (None, 5)}):  # looked at since
        tables.bronze.append([], 1, {AT: 5}, NOW)


def test_a_process_that_hangs_with_its_turn_is_waited_for_once(
    tables: Tables, lakehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    real = bronze.wait_for_lock
    monkeypatch.setattr(
        bronze, "wait_for_lock", lambda file, s: waited.append(s) or real(file, min(s, 0.01))
    )
    with (lakehouse / "ingest" / "events.commit").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        for _ in range(2):
            with tables.in_turn(FRESH):
                pass
    for _ in range(2):
        with tables.in_turn(FRESH):
            pass
    assert waited == [bronze.TURN_SECONDS, 0.0, 0.0, bronze.TURN_SECONDS]
