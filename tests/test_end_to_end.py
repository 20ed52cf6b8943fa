"""The whole path: a simulated bank, through Kafka and files, gives the bank's true state.

And what is asked of it: analyses answer with the columns that they promise, metrics agree with the
dashboard, a training set can be read.
"""

import json
import os
import re
import subprocess
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.simulate import Settings, truth
from ingestion.standin_broker import RECEIVE_MESSAGE_MAX_BYTES
from tests.support.ingest import INGEST
from tests.support.lakehouse import FEEDS, PROJECT, Lakehouse

BANK = Settings(seed=11, customers=60, days=45, end=date(2026, 6, 30))
WAVES = 3


def ingest(lakehouse: Path, broker: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [INGEST, *arguments, "--json"],
        cwd=PROJECT,
        env={
            **os.environ,
            "LAKEHOUSE_PATH": str(lakehouse),
            "KAFKA_BOOTSTRAP_SERVERS": broker,
            "KAFKA_RECEIVE_MESSAGE_MAX_BYTES": str(RECEIVE_MESSAGE_MAX_BYTES),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture(scope="module")
def built(broker: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lakehouse, Counter[str]]:
    """A lakehouse built wave by wave, and what the simulator says it did wrong on purpose."""
    lakehouse = Lakehouse(tmp_path_factory.mktemp("bank"), feeds=())
    flaws: Counter[str] = Counter()
    for wave in range(1, WAVES + 1):
        report = ingest(
            lakehouse.path,
            broker,
            *("simulate", "--seed", str(BANK.seed), "--customers", str(BANK.customers)),
            *("--days", str(BANK.days), "--part", f"{wave}/{WAVES}"),
        )
        flaws.update(report["imperfections"])
        ingest(lakehouse.path, broker, "run", "--once")
        lakehouse.dbt(
            "build", *(() if wave == WAVES else ("--exclude-resource-type", "test", "unit_test"))
        )
    return lakehouse, flaws


def moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, UTC).replace(tzinfo=None)


def test_every_kind_of_imperfection_was_there(built: tuple[Lakehouse, Counter[str]]) -> None:
    _, flaws = built
    assert flaws["late"] and flaws["duplicate"] and flaws["out_of_order"]
    assert sum(count for flaw, count in flaws.items() if flaw.startswith("malformed")) > 5


def test_silver_is_the_true_state_of_the_bank(built: tuple[Lakehouse, Counter[str]]) -> None:
    lakehouse, _ = built
    true = truth(BANK)
    compared = {
        "customers": ("customer_id", ("full_name", "email", "region", "status"), "updated_at"),
        "accounts": ("account_id", ("customer_id", "account_type"), "updated_at"),
        "card_transactions": ("transaction_id", ("customer_id", "merchant_name"), "updated_at"),
        "checking_transactions": ("transaction_id", ("customer_id", "purpose"), "updated_at"),
        "loan_applications": ("application_id", ("product", "status"), "updated_at"),
    }
    for table, (key, columns, time) in compared.items():
        rows = lakehouse.query(f"select {key}, {', '.join(columns)}, {time} from silver.{table}")
        assert rows, table
        assert {row[0]: row[1:] for row in rows} == {
            row[key]: (*(row[column] for column in columns), moment(row[time]))
            for row in true[table].values()
        }, table
    for table, key, name in (
        ("accounts", "account_id", "balance"),
        ("card_transactions", "transaction_id", "amount"),
        ("checking_transactions", "transaction_id", "amount"),
        ("loan_applications", "application_id", "amount"),
    ):
        assert {
            key: str(amount)
            for key, amount in lakehouse.query(f"select {key}, {name}_usd from silver.{table}")
        } == {row[key]: str(row[name]) for row in true[table].values()}, table
    assert {
        str(customer): numbers
        for customer, *numbers in lakehouse.query(
            "select customer_id, number_of_concert_tickets, number_of_online_txns"
            " from silver.customer_patterns"
        )
    } == {
        row["customer_id"]: [row["number_of_concert_tickets"], row["number_of_online_txns"]]
        for row in true["purchase_trends"].values()
    }
    vendors = {"tickets": "event_id", "travel": "booking_id", "dining": "visit_id"}
    for vendor, key in {**vendors, "retail": "order_id"}.items():
        events = lakehouse.query(
            f"select event_id from silver.behavior_events where vendor = '{vendor}'"
        )
        assert {event for (event,) in events} == {
            row[key] for row in true[f"vendor_{vendor}"].values()
        }, vendor


def test_every_malformed_record_is_in_quarantine_with_its_reason(
    built: tuple[Lakehouse, Counter[str]],
) -> None:
    lakehouse, flaws = built
    malformed = sum(count for flaw, count in flaws.items() if flaw.startswith("malformed"))
    rows = lakehouse.query(
        f"select feed, source, position, reason from delta_scan('{lakehouse.path}/quarantine')"
    )
    assert len(rows) == malformed
    assert all(all(part is not None for part in row) for row in rows)
    assert lakehouse.query(
        "select sum(records) from observability.quarantine_summary where stage = 'ingestion'"
    ) == [(malformed,)]
    assert lakehouse.query("select sum(records_rejected) from marts.dashboard_summary") == [
        (malformed + lakehouse.query("select count(*) from observability.rejected_changes")[0][0],)
    ]


ANALYSES = sorted(path.stem for path in (PROJECT / "analyses").glob("*.sql"))


@pytest.fixture(scope="module")
def compiled(built: tuple[Lakehouse, Counter[str]]) -> dict[str, str]:
    """The SQL of every analysis; this lakehouse was filled at once, so it knew nothing then."""
    result = built[0].dbt("compile", "--select", "path:analyses", "--vars", "as_known: now")
    return {done.node.name: done.node.compiled_code for done in result.result.results}


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_answers_with_the_columns_that_it_promises(
    built: tuple[Lakehouse, Counter[str]], compiled: dict[str, str], name: str
) -> None:
    text = (PROJECT / "analyses" / f"{name}.sql").read_text()
    promised = re.search(r"^-- Columns: (.*(?:\n--     .*)*)", text, re.M)
    assert promised, "its header says no columns"
    assert f"-- Run with: dbt show --select {name}" in text
    columns = re.findall(r"\w+", promised[1])
    sql = compiled[name]
    assert [row[0] for row in built[0].query(f"describe {sql}")] == columns
    assert built[0].query(sql), "it answers nothing"


def test_dbt_show_runs_an_analysis(built: tuple[Lakehouse, Counter[str]]) -> None:
    shown = built[0].dbt("show", "--select", "who_loses_most_on_cash_back", "--limit", "3")
    assert len(shown.result.results[0].agate_table.rows) == 3


def test_a_training_set_is_exported_and_can_be_read(
    built: tuple[Lakehouse, Counter[str]], compiled: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "training_set.parquet"
    arguments = json.dumps({"query": "training_set", "path": str(path)})
    operation = ("run-operation", "export_parquet", "--args", arguments)
    built[0].dbt(*operation, "--vars", "as_known: now")
    table = pq.read_table(path)
    rows = built[0].query(compiled["training_set"])
    assert table.num_rows == len(rows) > 0
    assert [tuple(row.values()) for row in table.to_pylist()] == rows
    assert pa.types.is_decimal(table.schema.field("spend_90d_usd").type)
    assert table.column("feature_at").null_count == 0
    result = built[0].dbt(
        "run-operation", "export_parquet", "--args", "{query: nothing, path: x}", check=False
    )
    assert not result.success


@pytest.fixture(scope="module")
def manifest(built: tuple[Lakehouse, Counter[str]]) -> dict[str, Any]:
    """What dbt has written about the project."""
    built[0].dbt("parse", "--write-json")
    text = (built[0].path / "target" / "manifest.json").read_text()
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_every_model_has_an_owner_and_the_dashboard_is_exposed(manifest: dict[str, Any]) -> None:
    groups = {group["name"]: group["owner"] for group in manifest["groups"].values()}
    assert set(groups) == {"finance", "marketing", "risk", "data_science", "platform"}
    assert all(owner["email"] and owner["name"] for owner in groups.values())
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    assert models
    for model in models:
        assert model["config"]["group"] in groups, model["name"]
        is_internal = "/staging/" in model["original_file_path"] or model["name"].endswith("_state")
        if is_internal and "/observability/" not in model["original_file_path"]:
            assert model["config"]["access"] == "private", model["name"]

    exposures = {exposure["name"]: exposure for exposure in manifest["exposures"].values()}
    on_page = {m["unique_id"] for m in models if m["name"].startswith("dashboard_")}
    assert set(exposures["insights_dashboard"]["depends_on"]["nodes"]) == on_page
    assert exposures["training_sets"]["depends_on"]["nodes"] == [
        "model.realtime_insights.customer_features"
    ]
    assert all(e["owner"]["email"] and e["description"] for e in exposures.values())


def test_no_valid_record_of_the_simulator_breaks_an_expectation(
    built: tuple[Lakehouse, Counter[str]],
) -> None:
    judged = dict(
        built[0].query(
            "select feed, sum(judged) from observability.data_quality_metrics group by feed"
        )
    )
    assert set(judged) == set(FEEDS) and all(judged.values())
    assert (
        built[0].query(
            "select feed, rule, passed, judged from observability.data_quality_metrics"
            " where passed < judged"
        )
        == []
    )


def metric(lakehouse: Lakehouse, manifest: dict[str, Any], name: str, by: str = "") -> Any:
    """A metric computed from its definition: one value, or by a dimension a dict."""
    definition = manifest["metrics"][f"metric.realtime_insights.{name}"]
    parameters = definition["type_params"]
    if definition["type"] == "ratio":
        parts = [
            metric(lakehouse, manifest, parameters[part]["name"])
            for part in ("numerator", "denominator")
        ]
        return Decimal(parts[0]) / Decimal(parts[1])
    assert definition["type"] == "simple"
    measure_name = parameters["measure"]["name"]
    (model, measure), *others = [
        (model, measure)
        for model in manifest["semantic_models"].values()
        for measure in model["measures"]
        if measure["name"] == measure_name
    ]
    assert not others and measure["agg"] == "sum"
    relation = model["node_relation"]["relation_name"]
    value = f"sum({measure['expr'] or measure_name})"
    if not by:
        return lakehouse.query(f"select {value} from {relation}")[0][0]
    (column,) = (d["expr"] or by for d in model["dimensions"] if d["name"] == by)
    return dict(lakehouse.query(f"select {column}, {value} from {relation} group by {column}"))


def test_metrics_agree_with_the_dashboard(
    built: tuple[Lakehouse, Counter[str]], manifest: dict[str, Any]
) -> None:
    lakehouse, _ = built

    def shown(column: str, view: str, by: str) -> dict[Any, Any]:
        return dict(lakehouse.query(f"select {by}, {column} from marts.{view}"))

    for name, column in (
        ("cash_back_cost_usd", "cash_back_usd"),
        ("cash_back_net_usd", "net_usd"),
        ("cash_back_loss_usd", "loss_usd"),
        ("customers_in_loss", "customers_in_loss"),
    ):
        by_month = metric(lakehouse, manifest, name, by="cash_back_month_start")
        assert by_month == shown(column, "dashboard_cash_back_monthly", "month"), name
        assert any(by_month.values()), name

    mix = metric(lakehouse, manifest, "engagement_mix", by="engagement_level")
    mix.pop(None, None)
    assert mix == shown("customers", "dashboard_engagement_mix", "engagement_level")

    customers, active = lakehouse.query(
        "select customers, active_customers from marts.dashboard_summary"
    )[0]
    assert metric(lakehouse, manifest, "customer_count") == customers > 0
    assert metric(lakehouse, manifest, "active_customers") == active > 0

    offers = lakehouse.query("select sum(customers) from marts.dashboard_offers")[0][0]
    assert metric(lakehouse, manifest, "offer_count") == offers > 0

    above, below, never = lakehouse.query(
        "select sum(above), sum(below), sum(never) from marts.dashboard_break_even_by_programme"
    )[0]
    share = metric(lakehouse, manifest, "break_even_share")
    assert share == Decimal(above) / (above + below + never)
    assert 0 < share < 1
    high = metric(lakehouse, manifest, "high_engagement_share")
    assert high == Decimal(mix["HIGH"]) / sum(mix.values())


def test_every_metric_is_described_and_owned(manifest: dict[str, Any]) -> None:
    assert manifest["metrics"]
    for name, definition in manifest["metrics"].items():
        assert definition["description"] and definition["label"], name
        assert definition["config"]["group"] in {"finance", "marketing"}, name
