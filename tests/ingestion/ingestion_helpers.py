"""What the ingestion tests share: a lakehouse to land in, and ways to read and break it."""

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import orjson
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from ingestion.config import Feed, FileOptions, KafkaOptions
from ingestion.metrics import Metrics
from ingestion.runner import FeedResult, run_continuous, run_once

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
# Crash tests crash before every line in CI, elsewhere before every third one: that takes seconds.
CRASH_STEP = 1 if os.environ.get("REQUIRE_ALL") == "1" else 3


def file_feed(path: Path, value_format: str = "ndjson", **settings: Any) -> Feed:
    """A feed named `visits` over a folder."""
    path.mkdir(parents=True, exist_ok=True)
    key = settings.pop("key", ("id",))
    return Feed("visits", value_format, FileOptions(path, **settings), key, file="feeds.yml")


def kafka_feed(
    servers: str, *topics: str, value_format: str = "json", key: Sequence[str] = (), **options: Any
) -> Feed:
    """A feed named `events` over topics."""
    settings = {"bootstrap.servers": servers, "receive.message.max.bytes": "2147483647"}
    source = KafkaOptions(topics=topics, settings=settings, **options)
    return Feed("events", value_format, source, tuple(key), file="feeds.yml")


def with_options(feed: Feed, **options: Any) -> Feed:
    return replace(feed, source=replace(feed.source, **options))


def land(feed: Feed, lakehouse: Path, *, fail: bool = False) -> FeedResult:
    """Run one feed once; a failure is a test's failure unless it asks for it."""
    (result,) = run_once([feed], [feed.name], lakehouse, lambda: NOW)
    if not fail:
        assert result.error is None, result.error
    return result


def rows(table: Path) -> list[dict[str, Any]]:
    """All rows of a Delta table in the order of their address."""
    if not DeltaTable.is_deltatable(str(table)):
        return []
    sql = "select * from t order by source, partition, position"
    reader = QueryBuilder().register("t", DeltaTable(table)).execute(sql)
    found = pa.table(reader.read_all()).to_pylist()
    for row in found:
        row["headers"] = None if row["headers"] is None else dict(row["headers"])
    return found


def bronze_rows(lakehouse: Path, feed: str = "visits") -> list[dict[str, Any]]:
    return rows(lakehouse / "bronze" / feed)


def quarantine_rows(lakehouse: Path) -> list[dict[str, Any]]:
    return rows(lakehouse / "quarantine")


def positions(found: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """The addresses of rows, with the folder of a file left out."""
    return [(Path(r["source"]).name, r["partition"], r["position"]) for r in found]


def assert_exactly_once(lakehouse: Path, feed: str, expected: int) -> None:
    """Every address stands once in bronze and quarantine together, and none is missing."""
    both = positions(bronze_rows(lakehouse, feed)) + positions(quarantine_rows(lakehouse))
    repeated = [address for address, count in Counter(both).items() if count > 1]
    assert not repeated
    assert len(both) == expected
    assert_batches_rise(lakehouse, feed)


def assert_batches_rise(lakehouse: Path, feed: str) -> None:
    """The batch id rises with every commit of the log that has one."""
    seen = []
    for path in sorted((lakehouse / "bronze" / feed / "_delta_log").glob("*.json")):
        for line in path.read_bytes().splitlines():
            transaction = orjson.loads(line).get("txn")
            if transaction and transaction["appId"] == f"ingest:{feed}":
                seen.append(transaction["version"])
    assert seen == sorted(set(seen))
    assert {r["batch_id"] for r in bronze_rows(lakehouse, feed)} <= set(seen)


class Crash(BaseException):
    """The process ends here: nothing in the job may catch it."""


def code_of(function: Callable[..., Any]) -> CodeType:
    """The code of a function, also of one that is decorated."""
    code: CodeType = getattr(function, "__wrapped__", function).__code__
    return code


@contextmanager
def before_line(
    number: int,
    functions: Sequence[Callable[..., Any]],
    action: Callable[[], object],
    visits: int = 1,
) -> Iterator[list[int]]:
    """Do something before the `number`-th line that these functions execute.

    The lines are counted together, each at most `visits` times: a loop's first rounds count.
    Yields a list that holds the number once it was reached.
    """
    codes = {code_of(function) for function in functions}
    seen: Counter[tuple[CodeType, int]] = Counter()
    reached: list[int] = []

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and not reached:
            seen[frame.f_code, frame.f_lineno] += 1
            if sum(min(count, visits) for count in seen.values()) == number:
                reached.append(number)
                action()
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if frame.f_code in codes else None

    threading.settrace(on_call)  # a commit runs in a thread of its own
    sys.settrace(on_call)
    try:
        yield reached
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]  # its stub does not know None


@contextmanager
def crash_before_line(
    number: int, functions: Sequence[Callable[..., Any]], visits: int = 1
) -> Iterator[list[int]]:
    """Raise Crash before the `number`-th line that these functions execute, as `before_line`."""

    def crash() -> None:
        raise Crash

    with suppress(Crash), before_line(number, functions, crash, visits) as reached:
        yield reached


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Return when the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


@contextmanager
def running(
    lakehouse: Path, *feeds: Feed, metrics: Metrics | None = None
) -> Iterator[list[FeedResult]]:
    """Follow feeds while the block runs, with a trigger of 0.1 s; the results are there after."""
    stop = threading.Event()
    results: list[FeedResult] = []
    quick = [replace(feed, trigger_seconds=0.1) for feed in feeds]
    names = [feed.name for feed in feeds]
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(
            run_continuous,
            quick,
            names,
            lakehouse,
            lambda: NOW,
            stop=stop,
            metrics=metrics or Metrics(),
        )
        try:
            yield results
        finally:
            stop.set()
            results += done.result(timeout=20)
