"""Every format's records in place, and one view per format over them, built once."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.staging import records
from tests.support.lakehouse import LANDED_AT, Lakehouse

PROJECT = Path(__file__).parent / "formats"
BRONZE = (
    "create table bronze.{} (source varchar, partition int, position bigint, key varchar,"
    " value varchar, source_timestamp timestamptz, ingested_at timestamptz, batch_id bigint)"
)
Rows = Callable[..., list[tuple[Any, ...]]]


def as_text(part: Any) -> str | None:
    return part if part is None or isinstance(part, str) else json.dumps(part)


@pytest.fixture(scope="session")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """The views; a model is named after its format, a bronze record's position is its index."""
    lakehouse = Lakehouse(tmp_path_factory.mktemp("formats"), project=PROJECT, feeds=())
    with duckdb.connect(str(lakehouse.path / "insights.duckdb")) as connection:
        connection.execute("set TimeZone = 'UTC'; create schema bronze; create schema partners")
        for feed, landed in records.BRONZE.items():
            connection.execute(BRONZE.format(feed))
            connection.executemany(
                f"insert into bronze.{feed} values (?, 0, ?, ?, ?, ?, ?, 7)",
                [
                    (source, position, as_text(key), as_text(value), LANDED_AT, LANDED_AT)
                    for position, (source, key, value) in enumerate(landed)
                ],
            )
        for table, (columns, rows) in records.PARTNERS.items():
            connection.execute(f"create table partners.{table} ({columns})")
            connection.executemany(
                f"insert into partners.{table} values ({', '.join('?' * len(rows[0]))})", rows
            )
    lakehouse.dbt("run", "--threads", "2")
    return lakehouse


@pytest.fixture
def changes(formats: Lakehouse) -> Rows:
    """Columns of a view's rows, in the order in which they arrived."""

    def query(
        model: str, columns: Sequence[str], where: str = "true", order: str = "batch_id, _position"
    ) -> list[tuple[Any, ...]]:
        return formats.query(
            f"select {', '.join(columns)} from formats.{model} where {where} order by {order}"
        )

    return query


@pytest.fixture
def reasons(formats: Lakehouse) -> Callable[[str], Mapping[int, str]]:
    """Why records of a view are rejected, by their position."""
    return lambda model: dict(
        formats.query(
            f"select _position, _reject_reason from formats.{model}"
            " where _reject_reason is not null"
        )
    )
