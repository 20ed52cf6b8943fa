"""Changes in a short notation, applied batch by batch to every table of `tests/cdc/project`."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.support.lakehouse import Lakehouse

PROJECT = Path(__file__).parent / "project"
FEEDS = ("events", "events_b", "truncated", "extract", "snapshots")
EVENT = re.compile(
    r"(?P<op>[udt])(?:\((?P<values>[^)]*)\))?@(?P<seq>~|[0-9]+)(?:\.(?P<seq_2>[0-9]+))?"
)

Row = tuple[Any, ...]
Key = tuple[str, int]


class Builder(Protocol):
    """What builds the project: a lakehouse on DuckDB, or one on the local SQL warehouse."""

    path: Path
    variables: dict[str, str]

    def dbt(self, *arguments: str, check: bool = True) -> Any: ...

    def land(self, feed: str, values: Iterable[str | None], *, batch_id: int) -> None: ...

    def query(self, sql: str) -> list[Row]: ...


def parse(text: str, stream: str, key: int | None = 1) -> list[dict[str, Any]]:
    """The records of one batch.

    `u(a,1)@10` sets v to a and w to 1 with sequence 10; `~` is NULL, a value left out is left out;
    `d@20` deletes, `t@30` truncates; `@10.2` has a second sequence; `k=2:` before an event is
    another key, `name=value` inside the brackets another column.
    """
    records = []
    for written in text.split():
        word = written
        own_key = key
        if written.startswith("k="):
            number, _, word = written[2:].partition(":")
            own_key = None if number == "~" else int(number)
        match = EVENT.fullmatch(word)
        assert match is not None, f"{word!r} is no event"
        record: dict[str, Any] = {"stream": stream, "k": own_key, "op": match["op"]}
        if match["seq"] != "~":
            record["seq"] = int(match["seq"])
        record["seq_2"] = int(match["seq_2"] or 0)
        if match["op"] == "t":
            record.update(stream=None, k=None)
        positions = iter(("v", "w"))
        for value in (match["values"] or "").split(",") if match["values"] else ():
            name, _, text_value = value.rpartition("=")
            record[name or next(positions)] = None if text_value == "~" else text_value
        if record.get("sets"):
            record["sets"] = record["sets"].replace("+", ",")
        records.append(record)
    return records


@dataclass
class Streams:
    """Named streams of one feed, each a text of batches: `u(a)@1 | d@2`."""

    feed: str = "events"
    texts: dict[str, str] = field(default_factory=dict)

    def batches(self) -> int:
        """How many batches the longest stream has."""
        return max(len(text.split("|")) for text in self.texts.values())

    def batch(self, number: int) -> list[str]:
        """The records of one batch of all streams, as JSON, in the order of the streams."""
        records = []
        for name, text in self.texts.items():
            parts = text.split("|")
            if number <= len(parts):
                records.extend(parse(parts[number - 1], name))
        return [json.dumps(record) for record in records]


def current_rows(builder: Builder, table: str, columns: str = "v, w") -> dict[Key, Row]:
    """Per stream and key the row that exists."""
    rows = builder.query(
        f"select stream, k, {columns} from cdc.{table}"
        " where not _is_deleted and k is not null order by stream, k"
    )
    return {(stream, k): tuple(values) for stream, k, *values in rows}


def versions(builder: Builder, table: str, columns: str = "v") -> dict[Key, str]:
    """Per stream and key its versions, in the notation of the tests: `a[1,5) b[5,)`."""
    rows = builder.query(
        f"select stream, k, valid_from, valid_to, {columns} from cdc.{table}"
        " where _is_version and k is not null order by stream, k, valid_from"
    )
    found: dict[Key, list[str]] = {}
    for stream, k, start, end, *values in rows:
        text = ",".join("~" if value is None else str(value) for value in values)
        found.setdefault((stream, k), []).append(f"{text}[{start},{'' if end is None else end})")
    return {key: " ".join(texts) for key, texts in found.items()}


@dataclass
class Lab:
    """What the tables of the project hold after every batch of the streams."""

    builder: Builder
    rows: list[dict[str, dict[Key, Row]]] = field(default_factory=list)
    histories: list[dict[str, dict[Key, str]]] = field(default_factory=list)

    def apply(
        self, feeds: Sequence[Streams], current: Mapping[str, str], history: Mapping[str, str]
    ) -> None:
        """Land batch after batch and build; both mappings are of a table to columns to look at."""
        for number in range(1, max(feed.batches() for feed in feeds) + 1):
            for feed in feeds:
                self.builder.land(feed.feed, feed.batch(number), batch_id=number)
            self.builder.dbt("run", "--exclude", "path:models/streams")
            self.rows.append({t: current_rows(self.builder, t, c) for t, c in current.items()})
            self.histories.append({t: versions(self.builder, t, c) for t, c in history.items()})

    def current(self, table: str, stream: str, batches: int, k: int = 1) -> list[Row | None]:
        """The row of a key after each of the first batches; None where there is none."""
        return [after[table].get((stream, k)) for after in self.rows[:batches]]

    def history(self, table: str, stream: str, batches: int, k: int = 1) -> list[str]:
        """The versions of a key after each of the first batches, "" where there are none."""
        return [after[table].get((stream, k), "") for after in self.histories[:batches]]


def lakehouse(path: Path, **options: Any) -> Lakehouse:
    """An empty lakehouse on DuckDB with the feeds of the tests, unless told otherwise."""
    return Lakehouse(path, **{"project": PROJECT, "feeds": FEEDS, **options})
