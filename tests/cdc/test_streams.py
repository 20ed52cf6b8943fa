"""Random streams of changes: after every batch every table holds what the rules say."""

import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.cdc import oracle
from tests.cdc.engines import Engine, duckdb, warehouse
from tests.cdc.lab import Builder
from tests.cdc.oracle import Event

EVENTS_PER_KEY = 40
STREAMS = 500
EXAMPLES = 4
DELETES, DUPLICATES, NULLS, TIES = 0.20, 0.15, 0.25, 0.03
COLUMNS = ("v", "w", "x")
EPOCH = datetime(1970, 1, 1)
KEYS = (["stream", "k"], ["k"], ["k", "stream", "flag"])
SEQUENCES = (["seq"], ["seq_text"], ["seq_time"], ["seq", "seq_2"], ["seq_text", "seq_2"])


@dataclass(frozen=True)
class Schema:
    """The shape of the tables in one example."""

    keys: list[str]
    sequence: list[str]
    batches: int
    seed: int


schemas = st.builds(
    Schema,
    keys=st.sampled_from(KEYS),
    sequence=st.sampled_from(SEQUENCES),
    batches=st.integers(2, 4),
    seed=st.integers(0, 2**32),
)


@dataclass
class Arrival:
    """A record of key `k`, and the batch in which it comes in."""

    k: int
    batch: int
    event: Event

    def text(self) -> str:
        seq, seq_2 = (*self.event.sequence, 0)[:2]
        values = self.event.values
        record = {
            "stream": f"stream {self.k}",
            "k": self.k,
            "flag": "even" if self.k % 2 == 0 else "odd",
            "op": "d" if values is None else "u",
            "seq": seq,
            "seq_2": seq_2,
            **{name: None if v is None else str(v) for name, v in (values or {}).items()},
            "sets": None if self.event.sets is None else ",".join(self.event.sets),
        }
        return json.dumps(record)


def random_events(rng: random.Random, parts: int) -> list[Event]:
    """The changes of one key as they were made, some twice, some with a tied sequence."""
    events: list[Event] = []
    seq = 0
    for _ in range(EVENTS_PER_KEY):
        if not events or rng.random() >= TIES:
            seq += rng.randint(1, 3)
        sequence = (seq,) if parts == 1 else (seq // 4, seq % 4)
        values: dict[str, Any] | None = {
            "v": rng.choice("abc"),
            "w": rng.randint(0, 2),
            "x": Decimal(rng.randint(0, 300)).scaleb(-2),
        }
        assert values is not None
        for name in COLUMNS:
            if rng.random() < NULLS:
                values[name] = None
        sets = None
        if rng.random() < 0.5:
            sets = [name for name in COLUMNS if rng.random() < 0.5] or ["v"]
        event = Event(sequence, values, sets)
        if rng.random() < DELETES:
            event = Event(sequence, None, None)
        events.append(event)
        if rng.random() < DUPLICATES:
            events.append(event)
    return events


def arrivals_of(rng: random.Random, k: int, events: list[Event], batches: int) -> list[Arrival]:
    """The same changes in an order of their own: from a little disturbed to fully shuffled."""
    disorder = rng.choice([0, 3, 10, len(events)])
    order = sorted(range(len(events)), key=lambda i: i + rng.uniform(0, disorder))
    return [
        Arrival(k, 1 + place * batches // len(events), events[i]) for place, i in enumerate(order)
    ]


@dataclass
class World:
    """Streams in pairs: keys 2n and 2n + 1 have the same changes, ordered and batched otherwise."""

    arrivals: list[Arrival]
    twins_differ_in_ties: set[int]

    @staticmethod
    def random(schema: Schema) -> "World":
        rng = random.Random(schema.seed)
        arrivals = []
        tied = set()
        for pair in range(STREAMS // 2):
            events = random_events(rng, len(schema.sequence))
            contents: dict[tuple[int, ...], set[str]] = defaultdict(set)
            for event in events:
                contents[event.sequence].add(repr(event))
            if any(len(c) > 1 for c in contents.values()):
                tied.add(pair)
            for k in (2 * pair, 2 * pair + 1):
                arrivals.extend(arrivals_of(rng, k, events, schema.batches))
        rng.shuffle(keys := list(range(STREAMS)))
        place = {k: i for i, k in enumerate(keys)}
        arrivals.sort(key=lambda a: (a.batch, place[a.k]))
        return World(arrivals, tied)

    def upto(self, batch: int) -> dict[int, list[Event]]:
        """Per key the changes of the first batches, in the order of their arrival."""
        found: dict[int, list[Event]] = {k: [] for k in range(STREAMS)}
        for arrival in self.arrivals:
            if arrival.batch <= batch:
                found[arrival.k].append(arrival.event)
        return found


def number(value: Any) -> int:
    """The whole number that a part of a sequence stands for, whatever its type."""
    if isinstance(value, datetime):
        return round((value - EPOCH).total_seconds())
    return int(value)


class Tables:
    """What the tables of the streams hold."""

    def __init__(self, builder: Builder, schema: Schema) -> None:
        self.builder = builder
        self.schema = schema

    def run(self, *arguments: str) -> None:
        variables = json.dumps({"keys": self.schema.keys, "sequence": self.schema.sequence})
        self.builder.dbt(
            "run", "--select", "stg_events", "path:models/streams", "--vars", variables, *arguments
        )

    def current(self, table: str) -> dict[int, tuple[Any, ...]]:
        rows = self.builder.query(
            f"select k, v, w, x from cdc.{table} where not _is_deleted order by k"
        )
        assert len({k for k, *_ in rows}) == len(rows), f"{table} holds a key twice"
        return {k: tuple(values) for k, *values in rows}

    def history(self, table: str) -> dict[int, list[tuple[Any, ...]]]:
        names = self.schema.sequence
        fields = [""] if len(names) == 1 else [f".{name}" for name in names]
        bounds = [
            f"{b}{f} as {b}_{i}" for b in ("valid_from", "valid_to") for i, f in enumerate(fields)
        ]
        starts = ", ".join(f"valid_from_{i}" for i in range(len(fields)))
        rows = self.builder.query(
            f"select k, v, w, x, {', '.join(bounds)} from cdc.{table}"
            f" where _is_version order by k, {starts}"
        )
        found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        half = len(fields)
        for k, v, w, x, *parts in rows:
            start = tuple(number(part) for part in parts[:half])
            end = None if parts[half] is None else tuple(number(part) for part in parts[half:])
            found[k].append((v, w, x, start, end))
        return dict(found)


CURRENT = {
    "streams_current": "",
    "streams_current_ignore_null": "null",
    "streams_current_updated_columns": "unnamed",
}
HISTORY = {
    "streams_history": ("", ()),
    "streams_history_tracked": ("", ("w",)),
    "streams_history_ignore_null": ("null", ()),
    "streams_history_updated_columns": ("unnamed", ()),
}


def assert_tables_hold(tables: Tables, events: dict[int, list[Event]]) -> None:
    """Every table holds what the oracle says; a failure shows the changes of a wrong key."""
    for table, keeps in CURRENT.items():
        held = tables.current(table)
        for k, arrivals in events.items():
            row = oracle.current(arrivals, keeps)
            expected = None if row is None else tuple(row[name] for name in COLUMNS)
            assert held.get(k) == expected, (table, k, arrivals)
    for table, (keeps, untracked) in HISTORY.items():
        found = tables.history(table)
        for k, arrivals in events.items():
            versions = [
                (*(v.values[name] for name in COLUMNS), v.start, v.end)
                for v in oracle.history(arrivals, keeps, untracked)
            ]
            assert found.get(k, []) == versions, (table, k, arrivals)


def assert_current_is_open_history(tables: Tables) -> None:
    """The rows of a current table are the open versions of its history."""
    for current, history in zip(CURRENT, ("streams_history", *list(HISTORY)[2:]), strict=True):
        opened = {
            k: versions[-1][:3]
            for k, versions in tables.history(history).items()
            if versions[-1][-1] is None
        }
        assert tables.current(current) == opened, current


@contextmanager
def small() -> Iterator[None]:
    """Fewer streams for the local warehouse, which is there for its SQL and not for its speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "STREAMS", 60)
        yield


def test_row_40_row_41_streams_converge_on_the_local_warehouse() -> None:
    with warehouse() as engine, small():
        check(engine, Schema(["stream", "k"], ["seq", "seq_2"], batches=2, seed=1))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate],
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(schema=schemas)
def test_row_40_row_41_streams_converge_and_current_is_open_history(schema: Schema) -> None:
    with duckdb() as engine:
        check(engine, schema)


def check(engine: Engine, schema: Schema) -> None:
    """Build random streams batch by batch and assert the four invariants of docs/auto_cdc.md."""
    world = World.random(schema)
    tables = Tables(engine.new(), schema)
    for batch in range(1, schema.batches + 1):
        texts = [a.text() for a in world.arrivals if a.batch == batch]
        tables.builder.land("events", texts, batch_id=batch)
        tables.run()
        assert_tables_hold(tables, world.upto(batch))
        assert_current_is_open_history(tables)

    # Order and batching do not matter: twins hold the same, ties apart.
    for table in CURRENT:
        rows = tables.current(table)
        for pair in set(range(STREAMS // 2)) - world.twins_differ_in_ties:
            assert rows.get(2 * pair) == rows.get(2 * pair + 1), (table, pair)
    for table in HISTORY:
        versions = tables.history(table)
        for pair in set(range(STREAMS // 2)) - world.twins_differ_in_ties:
            assert versions.get(2 * pair) == versions.get(2 * pair + 1), (table, pair)

    # Replay is free: all batches again, on top of what stands.
    tables.builder.query("delete from observability.cdc_watermarks")
    tables.run()
    assert_tables_hold(tables, world.upto(schema.batches))

    # An incremental run gives what a full refresh gives.
    tables.run("--full-refresh")
    assert_tables_hold(tables, world.upto(schema.batches))
