"""Late, duplicate, out-of-order and deleted records, in batches: the tables are always right."""

import csv
import hashlib
import json
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support import oracle
from tests.support.cash_back import assert_cash_back_matches
from tests.support.lakehouse import LANDED_AT, PROJECT, Lakehouse, envelope
from tests.support.oracle import Change

START = datetime(2026, 1, 5, 9, 0)
BATCHES = 3
AS_OF = LANDED_AT.date()
# The models whose tables are compared, whole, between batches and a full refresh.
TABLES = (
    *sorted(f"silver.{path.stem}" for path in (PROJECT / "models" / "silver").glob("*.sql")),
    *sorted(
        f"marts.{path.stem}"
        for path in (PROJECT / "models" / "marts").rglob("*.sql")
        if path.parent.name != "dashboard"
    ),
    "observability.rejected_changes",
)


def micros(moment: datetime) -> int:
    """Microseconds since the epoch of a UTC moment."""
    return int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000


@dataclass
class Stream:
    """The changes of one feed in the order of their arrival, and the batch where each comes in."""

    arrivals: list[tuple[int, Change, str]]

    def upto(self, batch: int) -> list[Change]:
        """The changes that have arrived with the first `batch` batches."""
        return [change for number, change, _ in self.arrivals if number <= batch]

    def texts(self, batch: int) -> list[str]:
        """The records of one batch."""
        return [text for number, _, text in self.arrivals if number == batch]


def disturbed(
    rng: random.Random, changes: list[tuple[Change, str]], batches: int = BATCHES
) -> Stream:
    """Spread changes over the batches: mostly in order, some late, some twice."""
    arrivals = []
    for place, (change, text) in enumerate(changes):
        batch = 1 + place * batches // len(changes)
        if rng.random() < 0.25:
            batch = rng.randint(batch, batches)
        arrivals.append((batch, change, text))
        if rng.random() < 0.15:
            arrivals.append((rng.randint(batch, batches), change, text))
    rng.shuffle(arrivals)
    return Stream(arrivals)


def customer_stream(rng: random.Random, customers: int) -> Stream:
    changes = []
    lsn = 1000
    for customer in range(1, customers + 1):
        moment = START
        row: dict[str, Any] = {
            "customer_id": customer,
            "full_name": f"Customer {customer}",
            "email": f"c{customer}@example.com",
            "birth_date": 7000 + customer,
            "region": "north",
            "cash_back_programme": rng.choice(["everyday", "travel_plus", "premier", None]),
            "status": "active",
            "created_at": micros(moment),
            "updated_at": micros(moment),
        }
        for _ in range(rng.randint(1, 9)):
            lsn += rng.randint(1, 5)
            # Nothing that reads time, only what reads the sequence, may depend on its finer parts.
            moment += timedelta(hours=rng.randint(1, 500))
            if rng.random() < 0.15:
                text = envelope(
                    "d",
                    {"customer_id": customer, "full_name": ""},
                    lsn,
                    at_ms=micros(moment) // 1000,
                )
                changes.append((Change(customer, lsn, None, moment), text))
                continue
            if rng.random() < 0.7:
                row = dict(
                    row,
                    region=rng.choice(["north", "south", None]),
                    cash_back_programme=rng.choice(["everyday", "travel_plus", "premier", None]),
                    status=rng.choice(["active", "active", "active", "closed"]),
                )
            text = envelope("u", row, lsn, at_ms=micros(moment) // 1000)
            changes.append((Change(customer, lsn, row, moment), text))
    return disturbed(rng, changes)


def transaction_stream(rng: random.Random, customers: int, count: int) -> Stream:
    changes = []
    lsn = 100_000
    purchases: list[tuple[int, int, Decimal]] = []
    for number in range(1, count + 1):
        lsn += rng.randint(1, 5)
        moment = START + timedelta(minutes=rng.randint(0, 150_000))
        kind, original = "purchase", None
        customer = rng.randint(1, customers)
        amount = Decimal(rng.randint(1, 90_000)) / 100
        if purchases and rng.random() < 0.15:
            kind = rng.choice(["refund", "reversal"])
            original, customer, bought = rng.choice(purchases)
            amount = bought if kind == "reversal" else (bought * rng.choice([1, 2, 3]) / 3)
            amount = max(amount.quantize(Decimal("0.01")), Decimal("0.01"))
        else:
            purchases.append((number, customer, amount))
        row: dict[str, Any] = {
            "transaction_id": number,
            "account_id": customer,
            "customer_id": customer,
            "transaction_type": kind,
            "original_transaction_id": original,
            "merchant_name": "Shop",
            "merchant_category_code": rng.choice(["5812", "4511", "5411", "7922", "1234"]),
            "amount": str(amount),
            "currency": "USD",
            "transacted_at": micros(moment),
            "updated_at": micros(moment),
        }
        changes.append((Change(number, lsn, row, moment), envelope("c", row, lsn)))
        if rng.random() < 0.1:
            lsn += 1
            row = dict(row, amount=str(amount * 2))
            changes.append((Change(number, lsn, row, moment), envelope("u", row, lsn)))
        if rng.random() < 0.07:
            lsn += 1
            text = envelope("d", {"transaction_id": number}, lsn)
            changes.append((Change(number, lsn, None, moment), text))
    return disturbed(rng, changes)


def pattern_stream(rng: random.Random, customers: int) -> Stream:
    changes = []
    for customer in range(1, customers + 1):
        created = START + timedelta(minutes=rng.randint(0, 200_000))
        moment = created
        for _ in range(rng.randint(1, 8)):
            moment += timedelta(hours=rng.randint(1, 400))
            millis = micros(moment) // 1000
            if rng.random() < 0.1:
                text = envelope("d", {"customer_id": str(customer)}, 1, at_ms=millis, schemas=True)
                changes.append((Change(customer, millis, None, moment), text))
                continue
            row = {
                "customer_id": str(customer),
                "date": moment.date().isoformat(),
                "number_of_concert_tickets": rng.randint(0, 5),
                "number_of_comedy_shows": rng.randint(0, 3),
                "number_of_sport_events": rng.randint(0, 2),
                "number_of_online_txns": rng.randint(0, 14),
                "home_mortgage_purchased_ts": None,
                "datetime_created": micros(created) // 1000,
                "datetime_updated": millis,
            }
            text = envelope("u", row, 1, at_ms=millis, schemas=True)
            changes.append((Change(customer, millis, row, moment), text))
    return disturbed(rng, changes)


def account_stream(rng: random.Random, customers: int) -> Stream:
    changes = []
    lsn = 200_000
    for account in range(1, 2 * customers + 1):
        moment = START
        for _ in range(rng.randint(1, 5)):
            lsn += rng.randint(1, 5)
            moment += timedelta(hours=rng.randint(1, 500))
            if rng.random() < 0.1:
                changes.append(
                    (
                        Change(account, lsn, None, moment),
                        envelope("d", {"account_id": account}, lsn, at_ms=micros(moment) // 1000),
                    )
                )
                continue
            row: dict[str, Any] = {
                "account_id": account,
                "customer_id": 1 + account % customers,
                "account_type": ("checking", "savings", "card")[account % 3],
                "currency": "USD",
                "balance": str(Decimal(rng.randint(-300_000, 900_000)) / 100),
                "opened_at": micros(START),
                "updated_at": micros(moment),
            }
            text = envelope("u", row, lsn, at_ms=micros(moment) // 1000)
            changes.append((Change(account, lsn, row, moment), text))
    return disturbed(rng, changes)


# Silences between two clicks, many of them within a millisecond of what ends a session.
SILENCES = (
    *(timedelta(seconds=seconds) for seconds in (0, 1, 7, 65, 600, 1500)),
    *(timedelta(minutes=30, milliseconds=off) for off in (-1, 0, 0, 1)),
    *(timedelta(hours=hours) for hours in (1, 20, 200)),
)


def click_stream(rng: random.Random, customers: int, batches: int = BATCHES) -> Stream:
    """Clicks, some of them corrected (a later time under the same id), some of nobody, and some of
    customers whom the bank does not know."""
    changes = []
    number = 0
    for customer in (*range(1, customers + 3), None):
        moment = START + timedelta(minutes=rng.randint(0, 240_000))
        for _ in range(rng.randint(5, 40)):
            number += 1
            moment += rng.choice(SILENCES)
            happened = moment
            for _ in range(1 + (rng.random() < 0.1)):
                place = rng.choice([None, (44.97781, -93.26505), (29.76043, -95.36987), (51.5, 0)])
                row: dict[str, Any] = {
                    "event_id": f"evt-{number}",
                    "customer_id": customer,
                    "page": rng.choice(["home", "cards", "loans", None]),
                    "action": "view",
                    "device": rng.choice(["ios", "web", None]),
                    "latitude": place[0] if place else None,
                    "longitude": place[1] if place else None,
                    "occurred_at": happened,
                }
                text = json.dumps(
                    row, default=lambda at: at.isoformat(timespec="milliseconds") + "Z"
                )
                sequence = int(happened.replace(tzinfo=UTC).timestamp() * 1000)
                changes.append((Change(number, sequence, row, happened), text))
                happened += rng.choice(SILENCES[1:])
    return disturbed(rng, changes, batches)


def checking_stream(rng: random.Random, customers: int) -> Stream:
    """Salaries and what is paid of them, in the months before the records were landed."""
    changes = []
    lsn = 300_000
    for number in range(1, 10 * customers + 1):
        lsn += 1
        moment = LANDED_AT.replace(tzinfo=None) - timedelta(hours=rng.randint(1, 2500))
        row: dict[str, Any] = {
            "transaction_id": number,
            "account_id": 3 * number,
            "customer_id": 1 + number % customers,
            "direction": rng.choice(["credit", "debit"]),
            "purpose": "salary",
            "amount": str(Decimal(rng.randint(1, 400_000)) / 100),
            "currency": "USD",
            "transacted_at": micros(moment),
            "updated_at": micros(moment),
        }
        changes.append((Change(number, lsn, row, moment), envelope("c", row, lsn)))
        if rng.random() < 0.1:
            lsn += 1
            text = envelope("d", {"transaction_id": number}, lsn)
            changes.append((Change(number, lsn, None, moment), text))
    return disturbed(rng, changes)


def loan_stream(rng: random.Random, customers: int) -> Stream:
    """Applications that are submitted, and mostly decided on days later."""
    changes = []
    lsn = 400_000
    for number in range(1, customers + 1):
        applicant = rng.randint(1, customers)
        submitted = LANDED_AT.replace(tzinfo=None) - timedelta(hours=rng.randint(500, 5000))
        for status in ["submitted", *rng.choice([[], ["declined"], ["approved", "funded"]])]:
            lsn += 1
            moment = submitted if status == "submitted" else submitted + timedelta(days=lsn % 15)
            row: dict[str, Any] = {
                "application_id": number,
                "customer_id": applicant,
                "product": ("personal", "auto", "home_mortgage")[number % 3],
                "amount": "5000.00",
                "term_months": 36,
                "status": status,
                "submitted_at": micros(submitted),
                "updated_at": micros(moment),
            }
            changes.append((Change(number, lsn, row, moment), envelope("u", row, lsn)))
    return disturbed(rng, changes)


def ticket_stream(rng: random.Random, transactions: Stream) -> Stream:
    """What a vendor tells of tickets that were bought with the card, and of some that were not."""
    changes = []
    for _, change, _ in transactions.arrivals:
        if change.row is None or change.row["merchant_category_code"] != "7922":
            continue
        amount = change.row["amount"] if rng.random() < 0.7 else "33.00"
        row = {
            "event_id": f"T{change.key}",
            "customer_id": str(change.row["customer_id"]),
            "event_type": rng.choice(["concert", "comedy", "sport"]),
            "tickets": "2",
            "total_price": amount,
            "purchased_at": str(change.at),
        }
        changes.append((Change(change.key, change.sequence, row, change.at), json.dumps(row)))
    return disturbed(rng, changes)


@dataclass
class World:
    """The feeds, landed batch by batch."""

    customers: Stream
    accounts: Stream
    transactions: Stream
    patterns: Stream
    clicks: Stream
    checking: Stream
    loans: Stream
    tickets: Stream


@pytest.fixture(scope="module")
def world() -> World:
    rng = random.Random(20260630)
    customers = customer_stream(rng, 40)
    transactions = transaction_stream(rng, 40, 900)
    return World(
        customers=customers,
        transactions=transactions,
        patterns=pattern_stream(rng, 60),
        accounts=account_stream(rng, 40),
        clicks=click_stream(rng, 40),
        checking=checking_stream(rng, 40),
        loans=loan_stream(rng, 40),
        tickets=ticket_stream(rng, transactions),
    )


def seed(name: str) -> list[dict[str, str]]:
    with (PROJECT / "seeds" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


TERMS = oracle.Terms(
    categories=seed("merchant_categories"),
    interchange=seed("interchange_rates"),
    programmes=seed("cash_back_programmes"),
    rates=seed("cash_back_rates"),
)


def assert_sessions_match(lakehouse: Lakehouse, clicks: Stream, batch: int) -> None:
    """Compare the sessions with those of all clicks of `batch` batches, taken together."""
    known = [key for (key,) in lakehouse.query("select customer_id from silver.customers")]
    rows = oracle.current(clicks.upto(batch)).values()
    boxes = seed("region_boxes")
    assert sorted(
        lakehouse.query(
            "select session_id, customer_id, device, region, events, pages, entry_page, exit_page,"
            " duration_seconds, started_at, ended_at from marts.customer_sessions"
        )
    ) == sorted(
        (
            hashlib.md5(f"{s.customer}|{s.clicks[0]['event_id']}".encode()).hexdigest(),  # noqa: S324 - an id
            s.customer,
            s.first("device"),
            next(filter(None, (oracle.region(c, boxes) for c in s.clicks)), None),
            len(s.clicks),
            len({c["page"] for c in s.clicks} - {None}),
            next((c["page"] for c in s.clicks if c["page"]), None),
            next((c["page"] for c in reversed(s.clicks) if c["page"]), None),
            (s.ended_at - s.started_at) // timedelta(seconds=1),
            s.started_at,
            s.ended_at,
        )
        for s in oracle.sessions(rows, known, timedelta(minutes=30))
    )


def assert_matches_oracle(lakehouse: Lakehouse, world: World, batch: int) -> None:
    """Compare silver and the cash-back marts with the oracle after `batch` batches."""
    customers = world.customers.upto(batch)
    assert dict(
        lakehouse.query(
            "select customer_id, (region, cash_back_programme, status) from silver.customers"
        )
    ) == {
        key: (row["region"], row["cash_back_programme"], row["status"])
        for key, row in oracle.current(customers).items()
    }

    versions = oracle.history(customers)
    assert lakehouse.query(
        "select customer_id, valid_from, valid_to, valid_from_at, valid_to_at,"
        " (region, cash_back_programme, status) from silver.customers_history order by 1, 2"
    ) == [
        (
            *(v.key, v.valid_from, v.valid_to, v.valid_from_at, v.valid_to_at),
            (v.row["region"], v.row["cash_back_programme"], v.row["status"]),
        )
        for v in sorted(versions, key=lambda v: (v.key, v.valid_from))
    ]

    transactions = [
        dict(
            row,
            amount_usd=Decimal(row["amount"]),
            transacted_at=datetime.fromtimestamp(row["transacted_at"] / 1e6, UTC).replace(
                tzinfo=None
            ),
        )
        for row in oracle.current(world.transactions.upto(batch)).values()
    ]
    assert dict(
        lakehouse.query("select transaction_id, amount_usd from silver.card_transactions")
    ) == {t["transaction_id"]: t["amount_usd"] for t in transactions}

    enrolled = oracle.enrolments(versions)
    expected_ledger = oracle.ledger(transactions, enrolled, TERMS)
    assert_cash_back_matches(lakehouse, expected_ledger, enrolled, TERMS, AS_OF)
    assert any(entry.cash_back < 0 for entry in expected_ledger.values())

    assert_sessions_match(lakehouse, world.clicks, batch)

    patterns = world.patterns.upto(batch)
    online = {
        int(key): row["number_of_online_txns"] for key, row in oracle.current(patterns).items()
    }
    assert dict(
        lakehouse.query("select customer_id, engagement_level from marts.customer_engagement")
    ) == {
        key: "HIGH" if number > 10 else "MEDIUM" if number > 2 else "LOW"
        for key, number in online.items()
    }
    rows: dict[int, list[oracle.Row]] = {}
    for version in oracle.history(patterns):
        rows.setdefault(version.key, []).append(version.row)
    assert dict(
        lakehouse.query(
            "select customer_id, lifetime_days from marts.customer_lifetime"
            " where lifetime_days is not null"
        )
    ) == {
        key: (
            datetime.fromtimestamp(max(r["datetime_updated"] for r in own) / 1e3, UTC).date()
            - datetime.fromtimestamp(min(r["datetime_created"] for r in own) / 1e3, UTC).date()
        ).days
        for key, own in rows.items()
    }


@pytest.fixture(scope="module")
def in_batches(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lakehouse]:
    """The lakehouse after three incremental builds, each checked against the oracle."""
    lakehouse = Lakehouse(tmp_path_factory.mktemp("batches"))
    lakehouse.dbt("seed")
    vendors = [
        f'{{"visit_id":"v{n}","customer_id":{n % 40},"cuisine":"thai","party_size":2,'
        f'"bill":"{n}.50","visited_at":"2026-02-01 10:00:00"}}'
        for n in range(30)
    ]
    for batch in range(1, BATCHES + 1):
        lakehouse.land("customers", world.customers.texts(batch), batch_id=batch)
        lakehouse.land("card_transactions", world.transactions.texts(batch), batch_id=batch)
        lakehouse.land("purchase_trends", world.patterns.texts(batch), batch_id=batch)
        lakehouse.land("accounts", world.accounts.texts(batch), batch_id=batch)
        lakehouse.land("clickstream", world.clicks.texts(batch), batch_id=batch)
        lakehouse.land("checking_transactions", world.checking.texts(batch), batch_id=batch)
        lakehouse.land("loan_applications", world.loans.texts(batch), batch_id=batch)
        lakehouse.land("vendor_tickets", world.tickets.texts(batch), batch_id=batch)
        lakehouse.land("vendor_dining", [*vendors[: batch * 10], "{cut off"], batch_id=batch)
        lakehouse.dbt("build" if batch == BATCHES else "run")
        assert_matches_oracle(lakehouse, world, batch)
    yield lakehouse


def test_three_batches_give_what_the_oracle_computes(in_batches: Lakehouse, world: World) -> None:
    assert_matches_oracle(in_batches, world, BATCHES)
    # Every kind of disturbance was there: else the comparison would prove little.
    changes = world.customers.arrivals
    assert any(change.row is None for _, change, _ in changes)
    assert len({(c.key, c.sequence) for _, c, _ in changes}) < len(changes)


def test_three_batches_give_what_a_full_refresh_gives(
    in_batches: Lakehouse, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("refresh") / "lakehouse"
    shutil.copytree(in_batches.path, copy)
    refreshed = Lakehouse(copy)
    refreshed.dbt("run", "--full-refresh")
    for table in TABLES:
        query = f"select * from {table} order by all"
        rows = in_batches.query(query)
        assert rows == refreshed.query(query), table
        assert rows, f"{table} is empty: nothing was compared"


def test_no_table_after_staging_knows_where_exactly_a_device_was(in_batches: Lakehouse) -> None:
    columns = in_batches.query(
        "select table_schema, table_name, column_name from information_schema.columns"
        " where table_schema in ('silver', 'marts')"
    )
    places = re.compile(r"lat|latitude|lon|lng|longitude|coordinates?|geo\w*|\w*location")
    assert [column for column in columns if places.fullmatch(column[2])] == []
    # Nor does a value tell, under whatever name.
    told = "where cast({} as varchar) like '%44.97781%' or cast({} as varchar) like '%93.26505%'"
    for schema, table in {(schema, table) for schema, table, _ in columns}:
        rows = f"from {schema}.{table} as held {told.format('held', 'held')}"
        assert in_batches.query(f"select count(*) {rows}") == [(0,)], f"{schema}.{table}"
    staged = f"from staging.stg_app__clickstream as held {told.format('held', 'held')}"
    assert in_batches.query(f"select count(*) > 0 {staged}") == [(True,)]


def test_a_batch_applied_again_changes_nothing(in_batches: Lakehouse) -> None:
    before = {table: in_batches.query(f"select * from {table} order by all") for table in TABLES}
    in_batches.query("delete from observability.cdc_watermarks")
    in_batches.dbt("run")
    for table, rows in before.items():
        assert in_batches.query(f"select * from {table} order by all") == rows, table


def test_bronze_made_anew_is_an_error_and_not_a_stale_table(
    in_batches: Lakehouse, tmp_path: Path
) -> None:
    copy = tmp_path / "lakehouse"
    shutil.copytree(in_batches.path, copy)
    shutil.rmtree(copy / "bronze" / "customers")
    lakehouse = Lakehouse(copy)
    lakehouse.land("customers", [], batch_id=1)
    result = lakehouse.dbt("run", "--select", "customers_state", check=False)
    assert not result.success
    message = " ".join(str(r.message) for r in result.result.results)
    assert "bronze was made anew" in message and "--full-refresh" in message
