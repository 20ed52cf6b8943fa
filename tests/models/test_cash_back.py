"""Cash back on random transactions and random terms: after every batch what the oracle says.

Transactions come late, twice, out of order; they change amount, day, currency and customer, and are
deleted; refunds lie months after their purchase. Programmes change their terms inside a month, and
customers their programme. Amounts and rates are such that many products end in half a cent.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.models.test_batches import Stream, customer_stream, disturbed, micros, seed
from tests.support import oracle
from tests.support.cash_back import assert_cash_back_matches
from tests.support.lakehouse import Lakehouse, envelope
from tests.support.oracle import Change

CUSTOMERS = 30
START = datetime(2026, 1, 5, 9, 0)
# Inside the months of the transactions: one of them is running, one lies ahead.
AS_OF = date(2026, 4, 10)
BATCHES = 3
MARTS = (
    "+cash_back_losses",
    "+cash_back_break_even",
    "+cash_back_category_mix",
    "+cash_back_result_daily",
)
DAYS = ("2020-01-01", "2026-01-20", "2026-02-01", "2026-02-17", "2026-03-02", "2026-03-28")


def validity(rng: random.Random) -> list[tuple[str, str]]:
    """Two to four periods without a gap, most of which begin inside a month."""
    starts = [DAYS[0], *sorted(rng.sample(DAYS[1:], rng.randint(1, 3)))]
    return list(zip(starts, [*starts[1:], ""], strict=True))


def random_terms(rng: random.Random) -> oracle.Terms:
    """Rates that are multiples of half a percent, caps that many months reach."""
    categories = seed("merchant_categories")
    names = sorted({row["category"] for row in categories})
    programmes, rates = [], []
    for programme in ("everyday", "travel_plus", "premier"):
        programmes += [
            {
                "programme": programme,
                "title": programme,
                "monthly_fee_usd": f"{rng.randint(0, 9)}.50",
                "monthly_servicing_cost_usd": f"{rng.randint(1, 12)}.25",
                "monthly_cap_usd": f"{rng.randint(2, 25)}.{rng.randint(0, 99):02}",
                "valid_from": first,
                "valid_to": last,
            }
            for first, last in validity(rng)
        ]
        rates += [
            {
                "programme": programme,
                "category": category,
                "cash_back_rate": f"{rng.randint(0, 8) * 5 / 1000:.6f}",
                "valid_from": first,
                "valid_to": last,
            }
            for category in names
            for first, last in validity(rng)
        ]
    interchange = [
        {
            "category": category,
            "interchange_rate": f"{rng.randint(1, 5) * 5 / 1000:.6f}",
            "valid_from": first,
            "valid_to": last,
        }
        for category in names
        for first, last in validity(rng)
    ]
    return oracle.Terms(categories, interchange, programmes, rates)


def transaction_stream(rng: random.Random, count: int) -> Stream:
    """Purchases, refunds and reversals, each of which may change up to three times."""
    changes = []
    lsn = 100_000
    purchases: list[tuple[int, int, Decimal, datetime]] = []
    for number in range(1, count + 1):
        kind, original = "purchase", None
        customer = rng.randint(1, CUSTOMERS)
        amount = Decimal(rng.randint(1, 1500)) / rng.choice([1, 2, 100])
        moment = START + timedelta(minutes=rng.randint(0, 160_000))
        if purchases and rng.random() < 0.25:
            kind = rng.choice(["refund", "reversal"])
            original, customer, bought, then = rng.choice(purchases)
            amount = bought if kind == "reversal" else bought * rng.choice([1, 2, 3]) / 3
            moment = then + timedelta(minutes=rng.randint(0, 90_000))
        else:
            purchases.append((number, customer, amount, moment))
        row: dict[str, Any] = {
            "transaction_id": number,
            "account_id": customer,
            "customer_id": customer,
            "transaction_type": kind,
            "original_transaction_id": original,
            "merchant_name": "Shop",
            "merchant_category_code": rng.choice(["5812", "4511", "5411", "7922", "1234"]),
            "amount": str(max(amount.quantize(Decimal("0.01")), Decimal("0.01"))),
            "currency": "USD",
            "transacted_at": micros(moment),
            "updated_at": micros(moment),
        }
        if rng.random() < 0.03:
            row = dict(row, currency=rng.choice(["EUR", None]))
        changes.append((Change(number, lsn := lsn + 3, row, moment), envelope("c", row, lsn)))
        while rng.random() < 0.2:
            change: dict[str, Any] = rng.choice(
                [
                    {"amount": str(Decimal(row["amount"]) * 2)},
                    {"customer_id": rng.randint(1, CUSTOMERS)},
                    {"currency": rng.choice(["USD", "EUR"])},
                    {"transacted_at": row["transacted_at"] + 20 * 86_400 * 10**6},
                    {"merchant_category_code": "4511"},
                ]
            )
            row = row | change
            changes.append((Change(number, lsn := lsn + 3, row, moment), envelope("u", row, lsn)))
        if rng.random() < 0.07:
            text = envelope("d", {"transaction_id": number}, lsn := lsn + 3)
            changes.append((Change(number, lsn, None, moment), text))
    return disturbed(rng, changes)


def load_terms(lakehouse: Lakehouse, terms: oracle.Terms) -> None:
    """Put these terms in the place of the seeds."""
    tables: Mapping[str, Sequence[Mapping[str, str]]] = {
        "interchange_rates": terms.interchange,
        "cash_back_programmes": terms.programmes,
        "cash_back_rates": terms.rates,
    }
    for table, rows in tables.items():
        lakehouse.query(f"delete from seeds.{table}")
        for row in rows:
            values = ", ".join(f"'{value}'" if value else "null" for value in row.values())
            lakehouse.query(f"insert into seeds.{table} ({', '.join(row)}) values ({values})")


@dataclass
class Bank:
    """A random bank: what arrives, and the terms of its programmes."""

    customers: Stream
    transactions: Stream
    terms: oracle.Terms

    def in_dollars(self, batch: int) -> list[Change]:
        """The changes of card transactions that staging lets through: it rejects other money."""
        return [
            change
            for change in self.transactions.upto(batch)
            if change.row is None or change.row["currency"] == "USD"
        ]

    def rows(self, batch: int) -> list[oracle.Row]:
        """The card transactions after `batch` batches."""
        return [
            dict(
                row,
                amount_usd=Decimal(row["amount"]),
                transacted_at=datetime.fromtimestamp(row["transacted_at"] / 1e6, UTC).replace(
                    tzinfo=None
                ),
            )
            for row in oracle.current(self.in_dollars(batch)).values()
        ]

    def assert_matches(self, lakehouse: Lakehouse, batch: int) -> dict[int, oracle.Entry]:
        """Compare all cash-back marts with the oracle; return its ledger."""
        enrolled = oracle.enrolments(oracle.history(self.customers.upto(batch)))
        entries = oracle.ledger(self.rows(batch), enrolled, self.terms)
        assert_cash_back_matches(lakehouse, entries, enrolled, self.terms, AS_OF)
        return entries


@pytest.fixture(scope="module")
def bank() -> Bank:
    rng = random.Random(20260410)
    return Bank(customer_stream(rng, CUSTOMERS), transaction_stream(rng, 1500), random_terms(rng))


@pytest.fixture(scope="module")
def built(bank: Bank, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lakehouse]:
    """The lakehouse after all batches, each compared with the oracle."""
    lakehouse = Lakehouse(tmp_path_factory.mktemp("cash_back"))
    lakehouse.dbt("seed")
    load_terms(lakehouse, bank.terms)
    for batch in range(1, BATCHES + 1):
        lakehouse.land("customers", bank.customers.texts(batch), batch_id=batch)
        lakehouse.land("card_transactions", bank.transactions.texts(batch), batch_id=batch)
        lakehouse.dbt("run", "--select", *MARTS, "--vars", json.dumps({"as_of_date": str(AS_OF)}))
        bank.assert_matches(lakehouse, batch)
    yield lakehouse


def test_every_batch_gives_what_the_oracle_computes(built: Lakehouse, bank: Bank) -> None:
    entries = bank.assert_matches(built, BATCHES)
    # What makes the comparison worth something was there.
    of_refunds = [e for e in entries.values() if e.spend < 0]
    assert any(e.withheld > 0 and e.cash_back > 0 for e in entries.values()), "no cap was reached"
    assert any(e.cash_back < 0 for e in of_refunds), "no cash back was taken back"
    assert any(not e.is_original_known for e in of_refunds), "all purchases were known"
    assert any(e.version and e.version.day > 1 for e in entries.values()), "no terms changed"
    rejected = len(bank.transactions.upto(BATCHES)) - len(bank.in_dollars(BATCHES))
    assert rejected > 0, "no other currency"
    assert any(e.month > AS_OF for e in entries.values()), "nothing lies ahead"
    assert any(
        e.spend * bank.terms.interchange_rate(e.category, e.day) % Decimal("0.01")
        == Decimal("0.005")
        for e in entries.values()
    ), "no product ends in half a cent"


def test_batches_compute_the_customers_that_changed_only(built: Lakehouse) -> None:
    reasons: dict[str, list[str]] = {}
    for model, reason in built.query(
        "select split_part(model, '.', 3), reason from observability.recomputations"
        " where model like '%.cash_back_%' order by model, run_number"
    ):
        reasons.setdefault(model, []).append(reason)
    assert len(reasons) == 8, reasons.keys()
    computed = ["first build"] + ["customers that changed"] * (BATCHES - 1)
    assert all(found == computed for found in reasons.values()), reasons


def test_the_data_tests_pass_on_it(built: Lakehouse) -> None:
    built.dbt(
        "test",
        # Not the tests of marts beside these, which are not built here.
        "--indirect-selection",
        "cautious",
        "--select",
        "path:models/marts/cash_back,test_type:data",
        "cash_back_reconciles",
        "cash_back_stays_under_the_cap",
        "cash_back_refunds_take_back_no_more_than_granted",
        "cash_back_mix_adds_up_to_break_even",
        "--vars",
        json.dumps({"as_of_date": str(AS_OF)}),
    )
