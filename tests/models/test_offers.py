"""A simulated bank: what a customer gets offered follows from what changed, and says so."""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import Any

import pytest

from ingestion.simulate import Settings, undisturbed
from ingestion.simulate.files import parse_row
from ingestion.simulate.records import TOPICS, Record
from tests.models.test_batches import seed
from tests.support.lakehouse import Lakehouse, envelope

BANK = Settings(seed=5, customers=120, days=75, end=date(2026, 6, 30))
TODAY = ("--vars", "{as_of_date: 2026-06-30}")
OFFERS = ("--select", "+personalized_offers", "+personalized_loans", "+customer_favorites")
WINDOW = datetime(2026, 6, 1)  # the first of the last 30 days


def landed(record: Record) -> str | None:
    """The value of a record as it stands in bronze."""
    if record.feed in TOPICS:
        return None if record.value is None else str(record.value)
    row = parse_row(record.feed, str(record.value))
    return json.dumps({name: str(value) for name, value in row.items()})


class Patterns:
    """Concert tickets of every customer over time, and who has closed, from the records."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.versions: dict[int, list[tuple[datetime, int]]] = defaultdict(list)
        self.active: set[int] = set()

    def read(self, record: Record) -> None:
        """Take one record into account; records come in the order in which they happened."""
        if record.feed == "customers" and record.op:
            row = json.loads(record.image) if record.image else {}
            customer = int(json.loads(record.key or "{}")["customer_id"])
            self.active.discard(customer)
            if row.get("status") == "active":
                self.active.add(customer)
        if record.feed == "purchase_trends" and record.op:
            customer = int(json.loads(record.key or "{}")["customer_id"])
            if record.image is None:
                self.rows.pop(customer, None)
                self.versions.pop(customer, None)  # a gap is not bridged
                return
            row = json.loads(record.image)
            self.rows[customer] = row
            at = datetime.fromtimestamp(row["datetime_updated"] / 1000, UTC).replace(tzinfo=None)
            self.versions[customer].append((at, row["number_of_concert_tickets"]))

    def growth(self, customer: int) -> tuple[int, int, date] | None:
        """The count before and after the last 30 days' moves, and the day of the first of them."""
        moves = [
            (at, before, after)
            for (_, before), (at, after) in zip(
                self.versions[customer], self.versions[customer][1:], strict=False
            )
            if after != before and at >= WINDOW
        ]
        return (moves[0][1], moves[-1][2], moves[0][0].date()) if moves else None


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lakehouse, Patterns]]:
    lakehouse = Lakehouse(tmp_path_factory.mktemp("offers"))
    patterns = Patterns()
    values: dict[str, list[str | None]] = defaultdict(list)
    for record in undisturbed(BANK):
        patterns.read(record)
        values[record.feed].append(landed(record))
    for feed, texts in values.items():
        lakehouse.land(feed, texts, batch_id=1)
    lakehouse.dbt("seed")
    lakehouse.dbt("run", *OFFERS, *TODAY)
    yield lakehouse, patterns


def concert_offers(lakehouse: Lakehouse) -> dict[int, str]:
    """Customer to the first sentence of the reason, of all who have earned the concert offer."""
    return dict(
        lakehouse.query(
            "select customer_id, split_part(reason, ';', 1) from marts.eligible_offers"
            " where offer_id = 'concert_presale'"
        )
    )


def sentence(before: int, after: int, since: date) -> str:
    return (
        f"Concert tickets went from {before} to {after} since {since.day} "
        f"{since:%B} {since.year}"
    )  # fmt: skip - one sentence


def test_the_concert_offer_goes_to_all_whose_tickets_grew_and_to_nobody_else(
    bank: tuple[Lakehouse, Patterns],
) -> None:
    lakehouse, patterns = bank
    expected = {}
    for customer in patterns.active & set(patterns.versions):
        growth = patterns.growth(customer)
        if growth and growth[1] - growth[0] >= 2 and growth[1] >= 4:
            expected[customer] = sentence(*growth)
    assert len(expected) > 3
    assert concert_offers(lakehouse) == expected


def test_three_concerts_became_five_leads_to_a_concert_offer_that_says_so(
    bank: tuple[Lakehouse, Patterns],
) -> None:
    lakehouse, patterns = bank
    customer = next(
        number
        for number in sorted(patterns.active & set(patterns.versions))
        if patterns.versions[number][-1][1] == 3 and patterns.growth(number) is None
    )
    offers = (
        "select title, reason, channel, triggered_at, valid_until_date"
        f" from marts.personalized_offers where customer_id = {customer}"
        " and offer_id = 'concert_presale'"
    )
    assert lakehouse.query(offers) == []
    moment = datetime(2026, 6, 30, 23, 30, tzinfo=UTC)
    at_ms = int(moment.timestamp() * 1000)
    row = patterns.rows[customer] | {"number_of_concert_tickets": 5, "datetime_updated": at_ms}
    lakehouse.land("purchase_trends", [envelope("u", row, 1, at_ms=at_ms)], batch_id=2)
    lakehouse.dbt("run", *OFFERS, *TODAY)
    ((title, reason, channel, triggered_at, valid_until),) = lakehouse.query(offers)
    assert title == "Concert presale with 10 % back" and channel == "app"
    assert reason.startswith("Concert tickets went from 3 to 5 since 30 June 2026")
    assert triggered_at == moment.replace(tzinfo=None)
    assert valid_until == date(2026, 6, 30) + timedelta(days=30)


def test_who_has_closed_bought_a_home_or_applied_gets_no_such_offer(
    bank: tuple[Lakehouse, Patterns],
) -> None:
    lakehouse, patterns = bank
    offered = {row for (row,) in lakehouse.query("select customer_id from marts.eligible_offers")}
    assert offered and offered <= patterns.active
    closed = lakehouse.query("select customer_id from silver.customers where status = 'closed'")
    assert closed, "nobody has closed: nothing was compared"
    assert lakehouse.query("select * from marts.personalized_loans")
    lakehouse.dbt("test", "--select", "offers_respect_the_customer", "preferences_reconcile")


def test_what_an_instalment_repays_follows_from_rate_and_term() -> None:
    loans = seed("loan_catalogue")
    assert loans
    with localcontext() as context:
        context.prec = 40
        for loan in loans:
            rate = Decimal(loan["annual_rate_pct"]) / 1200
            repaid = (1 - (1 + rate) ** -int(loan["term_months"])) / rate
            repaid = repaid.quantize(Decimal("0.01"), ROUND_FLOOR)
            assert Decimal(loan["principal_per_instalment"]) == repaid, loan["offer_id"]
