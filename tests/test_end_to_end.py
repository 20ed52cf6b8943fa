"""The whole path: a simulated bank, through Kafka and files, gives the bank's true state."""

import json
import os
import subprocess
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from ingestion.simulate import Settings, truth
from ingestion.standin_broker import RECEIVE_MESSAGE_MAX_BYTES
from tests.support.ingest import INGEST
from tests.support.lakehouse import PROJECT, Lakehouse

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
        lakehouse.dbt("build", *(() if wave == WAVES else ("--exclude-resource-type", "test")))
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
