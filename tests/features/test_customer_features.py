"""Features as known then and as known now: what lands late never reaches a row of the past."""

import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pyarrow.dataset import dataset

from tests.features.landed import MOMENTS, Bank, Row
from tests.support.lakehouse import Lakehouse
from tests.support.warehouse import Warehouse, WarehouseLakehouse, warehouse

__all__ = ["warehouse"]

BANK = Bank(seed=20260630)
# The warehouse takes its time: fewer builds there, of the same records.
BUILDS = {"duckdb": 3, "warehouse": 2}
MODELS = "+customer_features card_transactions_state card_transactions"
KEYS = ("customer_id", "feature_at", "known_from", "known_to")
FEATURES = tuple(BANK.features(1, MOMENTS[-1], datetime(2026, 7, 1)) or ())


@pytest.fixture(scope="module", params=["duckdb", "warehouse"])
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lakehouse]:
    """The lakehouse after several builds, each of some landings."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "duckdb":
        lakehouse = Lakehouse(folder)
    else:
        running: Warehouse = request.getfixturevalue("warehouse")
        lakehouse = WarehouseLakehouse(folder, catalog=running.new_catalog())
    lakehouse.dbt("seed")
    builds = BUILDS[request.param]
    for number in range(builds):
        BANK.land(lakehouse, _part(number, builds))
        lakehouse.dbt("run", "--select", *MODELS.split())
        # Today is the day up to which the data speak, from the first run on.
        newest = lakehouse.query("select max(feature_at) from marts.customer_features")[0][0]
        assert newest == max(m for m in MOMENTS if m <= _part(number, builds)[-1])
    lakehouse.dbt("test", "--select", "customer_features", "card_transactions_known")
    yield lakehouse
    if isinstance(lakehouse, WarehouseLakehouse):
        lakehouse.catalog.drop()


def _part(number: int, builds: int) -> list[datetime]:
    size = -(-len(BANK.landings) // builds)
    return BANK.landings[number * size : (number + 1) * size]


def rows_of(lakehouse: Lakehouse) -> list[Row]:
    rows = lakehouse.query(f"select {', '.join(KEYS + FEATURES)} from marts.customer_features")
    return [dict(zip(KEYS + FEATURES, row, strict=True)) for row in rows]


def test_every_version_is_what_was_known_while_it_held(built: Lakehouse) -> None:
    versions: dict[tuple[int, datetime], list[Row]] = {}
    for row in rows_of(built):
        versions.setdefault((row["customer_id"], row["feature_at"]), []).append(row)
    known = sorted({record.known_at for record in BANK.records})
    compared = 0
    for customer in BANK.customers:
        for moment in MOMENTS:
            for time in [moment, *(time for time in known if time > moment)]:
                holding = [
                    {name: row[name] for name in FEATURES}
                    for row in versions.get((customer, moment), [])
                    if row["known_from"] <= time
                    and (row["known_to"] is None or time < row["known_to"])
                ]
                expected = BANK.features(customer, moment, time)
                assert holding == ([] if expected is None else [dict(expected)]), (
                    customer,
                    moment,
                    time,
                )
                compared += expected is not None
    # Late, corrected and deleted records were there: else the comparison would prove little.
    assert compared > 500
    assert sum(len(rows) > 2 for rows in versions.values()) > 30


def test_news_that_changes_nothing_starts_no_version(built: Lakehouse) -> None:
    rows = sorted(rows_of(built), key=lambda row: [row[name] for name in KEYS[:3]])
    for before, after in pairwise(rows):
        if [before[name] for name in KEYS[:2]] == [after[name] for name in KEYS[:2]]:
            assert before["known_to"] == after["known_from"]
            assert any(before[name] != after[name] for name in FEATURES)


def training_set(lakehouse: Lakehouse, labels: list[tuple[int, datetime]], how: str) -> Any:
    """The labels with their features, by the macro, as a dict."""
    rows = ", ".join(f"({c}, cast('{at}' as timestamp), 'kept')" for c, at in labels)
    lakehouse.query("drop table if exists marts.labels")
    lakehouse.query(
        "create table marts.labels as select * from"
        f" (values {rows}) as labels (customer_id, labelled_at, outcome)"
    )
    relation = "api.Relation.create(database=target.database, schema='marts', identifier='labels')"
    compiled = lakehouse.dbt(
        "compile", "--inline", f"{{{{ point_in_time({relation}, as_known='{how}') }}}}"
    )
    names = ("customer_id", "labelled_at", "outcome", "feature_at", *FEATURES)
    sql = compiled.result.results[0].node.compiled_code
    return {
        (row["customer_id"], row["labelled_at"]): row
        for row in (
            dict(zip(names, values, strict=True))
            for values in lakehouse.query(f"select {', '.join(names)} from ({sql}) as training")
        )
    }


@pytest.mark.parametrize("how", ["then", "now"])
def test_labels_meet_the_features_of_their_moment_as_known(built: Lakehouse, how: str) -> None:
    pick = random.Random(7)
    labels = [
        (customer, datetime(2026, 1, 10) + timedelta(minutes=pick.randint(0, 230_000)))
        for customer in [*BANK.customers, 99]
        for _ in range(12)
    ]
    # Exactly at a moment, and exactly when something became known.
    labels += [(customer, MOMENTS[4]) for customer in BANK.customers]
    labels += [(1, time) for time in sorted({r.known_at for r in BANK.records})[-5:]]
    labels = sorted(set(labels))
    found = training_set(built, labels, how)
    assert sorted(found) == labels
    differing = 0
    for customer, labelled_at in labels:
        known_at = labelled_at if how == "then" else datetime(9999, 1, 1)
        expected: dict[str, Any] = dict.fromkeys(("feature_at", *FEATURES))
        for moment in MOMENTS:
            if moment <= labelled_at and (row := BANK.features(customer, moment, known_at)):
                expected = {"feature_at": moment, **row}
        row = found[customer, labelled_at]
        assert row["outcome"] == "kept"
        assert {name: row[name] for name in expected} == expected, (customer, labelled_at)
        differing += (
            expected
            != {
                "feature_at": expected["feature_at"],
                **(BANK.features(customer, expected["feature_at"], datetime(9999, 1, 1)) or {}),
            }
            if expected["feature_at"]
            else 0
        )
    # What was known then is often not what is known now.
    assert differing > 20 if how == "then" else differing == 0


def test_an_unknown_way_to_know_and_an_unknown_feature_are_refused(
    built: Lakehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    for call, message in (
        ("point_in_time('labels', as_known='later')", "as_known is 'then' or 'now'"),
        ("point_in_time('labels', features=['shoe_size'])", "there is no feature shoe_size"),
    ):
        result = built.dbt("compile", "--inline", f"{{{{ {call} }}}}", check=False)
        assert not result.success
        assert message in capsys.readouterr().out


def test_batches_give_what_a_full_refresh_gives(built: Lakehouse) -> None:
    silver = ("silver.card_transactions_known", "silver.accounts_known")
    queries = [f"select * from {table}" for table in (*silver, "marts.customer_features")]
    before = [sorted(map(repr, built.query(query))) for query in queries]
    built.dbt("run", "--full-refresh", "--select", *MODELS.split())
    for query, rows in zip(queries, before, strict=True):
        assert rows, query
        assert sorted(map(repr, built.query(query))) == rows, query


def test_a_batch_applied_again_changes_nothing(built: Lakehouse) -> None:
    before = sorted(map(repr, rows_of(built)))
    built.query("delete from observability.cdc_watermarks")
    built.dbt("run", "--select", *MODELS.split())
    assert sorted(map(repr, rows_of(built))) == before


def test_features_are_exported_as_parquet(built: Lakehouse, tmp_path: Path) -> None:
    path = tmp_path / "features.parquet"
    arguments = json.dumps({"query": "customer_features", "path": str(path)})
    built.dbt("run-operation", "export_parquet", "--args", arguments)
    table = dataset(path, format="parquet").to_table(columns=[*KEYS[:2], *FEATURES])
    expected = [{name: row[name] for name in (*KEYS[:2], *FEATURES)} for row in rows_of(built)]
    assert sorted(map(repr, table.column("spend_90d_usd").to_pylist())) == sorted(
        repr(row["spend_90d_usd"]) for row in expected
    )
    assert table.num_rows == len(expected) > 0
