"""Records that this project did not make up, landed by `ingest` and built with its macros."""

import csv
import json
import random
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.ingest import ingest_once
from tests.support.lakehouse import Lakehouse

PROJECT = Path(__file__).parent / "real_input"
RECORDS = Path(__file__).parents[1] / "data" / "debezium_postgres.jsonl"
BERKA = Path(__file__).parents[3] / "shared" / "data" / "berka"
UNAVAILABLE = "__debezium_unavailable_value"
DEBEZIUM = {
    "debezium_customers": "bank.bank.customers",
    "debezium_accounts": "bank.bank.accounts_full",
    "debezium_transactions": "bank.bank.transactions",
}
BERKA_FILES = {
    "berka_clients": ("client.asc", "client_id"),
    "berka_accounts": ("account.asc", "account_id"),
    "berka_loans": ("loan.asc", "loan_id"),
    "berka_orders": ("order.asc", "order_id"),
}


def debezium_records(variant: str, topic: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    return [r for r in records if r["variant"].startswith(variant) and r["topic"] == topic]


def rows_after(records: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What the database held in the end: the records, as they were written, one after the other."""
    rows: dict[int, dict[str, Any]] = {}
    for value in (r["value"] for r in records if r["value"] is not None):
        if value["op"] == "d":
            rows.pop(value["before"]["id"])
        elif value["op"] != "t":
            row = dict(value["after"])
            standing = rows.get(row["id"], {})
            for column, held in row.items():
                if held == UNAVAILABLE:
                    row[column] = standing.get(column)
            rows[row["id"]] = row
    return rows


def message(record: dict[str, Any]) -> tuple[bytes | None, bytes | None]:
    key, value = (
        None if part is None else json.dumps(part).encode()
        for part in (record["key"], record["value"])
    )
    return key, value


@pytest.mark.parametrize("variant", ["A", "C"])
@pytest.mark.parametrize("order", ["as written", "shuffled"])
def test_debezium_records_build_what_the_database_held(
    variant: str,
    order: str,
    broker: str,
    new_topic: Callable[..., str],
    send: Callable[..., None],
    tmp_path: Path,
) -> None:
    topics = {feed: new_topic() for feed in DEBEZIUM}
    lakehouse = Lakehouse(tmp_path, project=PROJECT, feeds=[*DEBEZIUM, *BERKA_FILES])
    # Decimals of variant A are base64 without a scale: readable as text only.
    balance = {"A": "string", "C": "decimal(18,4)"}[variant]
    batches: dict[str, list[list[dict[str, Any]]]] = {}
    for feed, topic in DEBEZIUM.items():
        records = debezium_records(variant, topic)
        assert len(records) >= 4
        if order == "shuffled":
            # The truncate has no order of its own here, and snapshot rows have one lsn.
            random.Random(4).shuffle(records)
        half = len(records) // 2
        batches[feed] = [records[:half], records[half:]]
    for batch in range(2):
        for feed, topic in topics.items():
            send(topic, [message(record) for record in batches[feed][batch]])
        ingest_once(
            tmp_path,
            {
                feed: {"kafka": {"topics": [topic]}, "format": "debezium", "key": ["id"]}
                for feed, topic in topics.items()
            },
            broker,
        )
        lakehouse.dbt(
            "run",
            "--select",
            "+debezium_customers_state",
            "+debezium_customers_history_state",
            "+debezium_transactions_state",
            "--vars",
            json.dumps({"balance_type": balance}),
        )

    expected = rows_after(debezium_records(variant, DEBEZIUM["debezium_customers"]))
    columns = ("id", "name", "email", "tier", "active", "meta", "segment", "big", "balance")
    state = lakehouse.query(
        f"select {', '.join(columns)} from real.debezium_customers_state"
        " where not _is_deleted order by id"
    )
    assert state == [
        tuple(
            Decimal(row[c]) if c == "balance" and variant == "C" and row[c] else row.get(c)
            for c in columns
        )
        for _, row in sorted(expected.items())
    ]
    assert len(state) == 3
    assert state == lakehouse.query(
        f"select {', '.join(columns)} from real.debezium_customers_history_state"
        " where _is_version and valid_to is null order by id"
    )
    tombstones = lakehouse.query(
        "select id, name, created_at from real.debezium_customers_state"
        " where _is_deleted order by id"
    )
    assert tombstones == [(2, None, None), (3, None, None)]

    # The large value of customer 3 stands in both versions, the update did not hold it.
    big = lakehouse.query(
        "select distinct length(big), big like '%unavailable%'"
        " from real.debezium_customers_history_state where id = 3 and _is_version"
    )
    original = next(
        r["value"]["after"]["big"]
        for r in debezium_records(variant, DEBEZIUM["debezium_customers"])
        if r["value"] and r["value"]["op"] == "c" and r["value"]["after"]["id"] == 3
    )
    assert big == [(len(original), False)]

    births = lakehouse.query(
        "select birth, created_at from real.debezium_customers_state where id = 1"
    )
    assert births[0][0] == date(1990, 5, 6)
    assert births[0][1].isoformat() == "2026-01-02T03:04:05.123456"

    rejected = lakehouse.query(
        "select _reject_reason, count(*) from real.stg_debezium__transactions"
        " where _reject_reason is not null group by all"
    )
    truncates = ("truncate: no rule for truncates is set for this table", 1)
    assert truncates in rejected
    if variant == "A":
        # The third one is NaN, which Debezium writes as null.
        assert ("amount is not of type decimal(18,4)", 2) in rejected


def test_an_unchanged_large_value_in_a_column_that_is_not_declared_is_rejected_and_kept(
    tmp_path: Path,
) -> None:
    lakehouse = Lakehouse(tmp_path, project=PROJECT, feeds=[*DEBEZIUM, *BERKA_FILES])
    records = debezium_records("C", DEBEZIUM["debezium_accounts"])
    change = json.loads(json.dumps(next(r["value"] for r in records if r["value"]["op"] == "u")))
    change["after"]["big"] = UNAVAILABLE
    lakehouse.land("debezium_accounts", [json.dumps(change)], batch_id=1)
    lakehouse.dbt("run", "--select", "+debezium_accounts_state")
    assert lakehouse.query("select * from real.debezium_accounts_state") == []
    ((reason, value),) = lakehouse.query(
        "select _reject_reason, _rejected_value from real.stg_debezium__accounts"
    )
    assert reason == "big is an unchanged large value: list it in large"
    assert json.loads(value) == change


@pytest.mark.skipif(not BERKA.is_dir(), reason="the real bank's files are not here: ../shared")
def test_the_files_of_a_real_bank_build_row_by_row(tmp_path: Path) -> None:
    lakehouse = Lakehouse(tmp_path, project=PROJECT, feeds=[*DEBEZIUM, *BERKA_FILES])
    ingest_once(
        tmp_path,
        {
            feed: {
                "files": {"path": str(BERKA), "glob": name, "delimiter": ";"},
                "format": "csv",
                "key": [key],
            }
            for feed, (name, key) in BERKA_FILES.items()
        },
    )
    lakehouse.dbt("run", "--select", *(f"+{feed}_state" for feed in BERKA_FILES))

    def rows(name: str) -> list[dict[str, str]]:
        with (BERKA / name).open(newline="", encoding="ascii") as file:
            return list(csv.DictReader(file, delimiter=";"))

    clients = {}
    for row in rows("client.asc"):
        number = row["birth_number"]
        month = int(number[2:4])
        birth = date(1900 + int(number[:2]), month - 50 if month > 50 else month, int(number[4:]))
        clients[int(row["client_id"])] = ("F" if month > 50 else "M", birth)
    assert len(clients) == 5369
    assert clients == {
        client: (gender, birth)
        for client, gender, birth in lakehouse.query(
            "select client_id, gender, birth_date from real.berka_clients_state"
        )
    }

    opened = lakehouse.query(
        "select account_id, opened_on, statement_frequency from real.berka_accounts_state"
    )
    codes = {
        "POPLATEK MESICNE": "monthly",
        "POPLATEK TYDNE": "weekly",
        "POPLATEK PO OBRATU": "after each transaction",
    }
    assert sorted(opened) == sorted(
        (
            int(row["account_id"]),
            date(1900 + int(row["date"][:2]), int(row["date"][2:4]), int(row["date"][4:])),
            codes[row["frequency"]],
        )
        for row in rows("account.asc")
    )
    assert max(o[1] for o in opened) - min(o[1] for o in opened) > timedelta(days=1000)

    loans = rows("loan.asc")
    assert lakehouse.query(
        "select count(*), sum(amount), sum(payments) from real.berka_loans_state"
    ) == [
        (
            len(loans),
            sum(Decimal(row["amount"]) for row in loans),
            sum(Decimal(row["payments"]) for row in loans),
        )
    ]
    orders = rows("order.asc")
    assert lakehouse.query(
        "select count(*), sum(amount), count(purpose) from real.berka_orders_state"
    ) == [
        (
            len(orders),
            sum(Decimal(row["amount"]) for row in orders),
            sum(bool(row["k_symbol"].strip()) for row in orders),
        )
    ]
