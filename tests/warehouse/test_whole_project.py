"""The project builds on the warehouse what it builds on DuckDB: same input, same rows."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.models.test_batches import (
    BATCHES,
    account_stream,
    checking_stream,
    click_stream,
    customer_stream,
    loan_stream,
    pattern_stream,
    ticket_stream,
    transaction_stream,
)
from tests.support.lakehouse import PROJECT, Lakehouse
from tests.support.warehouse import Warehouse, WarehouseLakehouse

TABLES = sorted(
    f"{schema}.{path.stem}"
    for schema in ("silver", "marts")
    for path in (PROJECT / "models" / schema).rglob("*.sql")
)
# Nothing of theirs is landed here.
EMPTY = {
    "accounts_known",
}


@dataclass
class Both:
    """The same lakehouse on both engines."""

    duckdb: Lakehouse
    warehouse: WarehouseLakehouse
    unparsed: list[str]
    by_first_word: list[str]


@pytest.fixture(scope="module")
def both(warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both engines after a first build and an incremental one with late, duplicate and deleted
    changes, all tests of the project included."""
    rng = random.Random(20261122)
    feeds = {
        "customers": customer_stream(rng, 40),
        "card_transactions": transaction_stream(rng, 40, 600),
        "purchase_trends": pattern_stream(rng, 60),
        "accounts": account_stream(rng, 40),
        "clickstream": click_stream(rng, 40),
        "checking_transactions": checking_stream(rng, 40),
        "loan_applications": loan_stream(rng, 40),
    }
    feeds["vendor_tickets"] = ticket_stream(rng, feeds["card_transactions"])
    visits = [
        f'{{"visit_id":"v{n}","customer_id":{n % 40},"cuisine":"thai","party_size":2,'
        f'"bill":"{n}.50","visited_at":"2026-02-01 10:00:00"}}'
        for n in range(30)
    ]
    duckdb = Lakehouse(tmp_path_factory.mktemp("duckdb"))
    catalog = warehouse.new_catalog()
    before = warehouse.report()
    on_warehouse = WarehouseLakehouse(tmp_path_factory.mktemp("warehouse"), catalog=catalog)
    for lakehouse in (duckdb, on_warehouse):
        lakehouse.dbt("seed")
        # All but the last batch come first: they are complete enough for every test to hold.
        for batch in range(1, BATCHES + 1):
            for feed, stream in feeds.items():
                lakehouse.land(feed, stream.texts(batch), batch_id=batch)
            lakehouse.land("vendor_dining", [*visits[: batch * 10], "{cut off"], batch_id=batch)
            if batch >= BATCHES - 1:
                # Unit tests ask for no data: once is enough. On DuckDB others run all tests.
                repeated = ("--exclude-resource-type", "unit_test") if batch == BATCHES else ()
                lakehouse.dbt(*(("run",) if lakehouse is duckdb else ("build", *repeated)))
    after = warehouse.report()
    asked = {key: after[key][len(before[key]) :] for key in ("unparsed", "by_first_word")}
    yield Both(duckdb, on_warehouse, **asked)
    catalog.drop()


def plain(value: Any) -> Any:
    """A value that compares alike on both engines and can be counted."""
    if isinstance(value, Decimal):
        return value.normalize()
    if isinstance(value, dict):
        return tuple((name, plain(item)) for name, item in value.items())
    return value


def columns_of(lakehouse: Lakehouse, table: str) -> list[str]:
    """The columns of a table, in their order."""
    return [row[0] for row in lakehouse.query(f"describe {table}")]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_holds_the_same_rows_on_both_engines(both: Both, table: str) -> None:
    columns = columns_of(both.duckdb, table)
    assert columns_of(both.warehouse, table) == columns
    rows = [
        Counter(tuple(map(plain, row)) for row in lakehouse.query(f"select * from {table}"))
        for lakehouse in (both.duckdb, both.warehouse)
    ]
    assert rows[0] == rows[1]
    name = table.split(".")[1].removesuffix("_state")
    assert rows[0] or name in EMPTY, "nothing was compared"


def test_every_statement_of_dbt_is_databricks_sql(both: Both) -> None:
    assert both.unparsed == []
    # Of these sqlglot knows only the first word: the parser of the warehouse reads the rest.
    without_comments = (re.sub(r"/\*.*?\*/", "", text, flags=re.S) for text in both.by_first_word)
    assert {text.split()[0].upper() for text in without_comments} <= {"SHOW"}


def test_docs_know_every_model_and_its_columns(both: Both) -> None:
    both.warehouse.dbt("docs", "generate", "--write-json")
    catalog = Path(both.warehouse.path / "target" / "catalog.json").read_text()
    for table in TABLES:
        assert f'"model.realtime_insights.{table.split(".")[1]}"' in catalog
