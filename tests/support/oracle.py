"""What the tables must hold, computed in plain Python from the rules, independently of the SQL."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

Row = Mapping[str, Any]
CENT = Decimal("0.01")
END_OF_TIME = datetime(9999, 1, 1)


@dataclass(frozen=True)
class Change:
    """One change as it arrives: `row` is None for a delete; `at` is when it happened."""

    key: int
    sequence: int
    row: Row | None
    at: datetime


def _settled(arrivals: Iterable[Change]) -> dict[int, dict[int, Change]]:
    """Per key and sequence the change that arrived last."""
    events: dict[int, dict[int, Change]] = defaultdict(dict)
    for change in arrivals:
        events[change.key][change.sequence] = change
    return events


def current(arrivals: Iterable[Change]) -> dict[int, Row]:
    """The rows that exist: per key the change of the greatest sequence, unless it is a delete."""
    rows = {}
    for key, by_sequence in _settled(arrivals).items():
        newest = by_sequence[max(by_sequence)]
        if newest.row is not None:
            rows[key] = newest.row
    return rows


@dataclass(frozen=True)
class Version:
    """A version of a key: half-open in sequence and in time, None where it is still open."""

    key: int
    row: Row
    valid_from: int
    valid_to: int | None
    valid_from_at: datetime
    valid_to_at: datetime | None


def history(arrivals: Iterable[Change]) -> list[Version]:
    """All versions: a change that changes nothing extends, a delete closes and opens none."""
    versions = []
    for key, by_sequence in _settled(arrivals).items():
        opened: Change | None = None
        for sequence in sorted(by_sequence):
            change = by_sequence[sequence]
            if opened is not None and opened.row == change.row:
                continue
            if opened is not None and opened.row is not None:
                versions.append(
                    Version(key, opened.row, opened.sequence, sequence, opened.at, change.at)
                )
            opened = change
        if opened is not None and opened.row is not None:
            versions.append(Version(key, opened.row, opened.sequence, None, opened.at, None))
    return versions


def cents(amount: Decimal) -> Decimal:
    """Round to cents, half to even."""
    return amount.quantize(CENT, ROUND_HALF_EVEN)


@dataclass(frozen=True)
class Terms:
    """The seeds: rows as read from their CSV files."""

    categories: Sequence[Mapping[str, str]]
    interchange: Sequence[Mapping[str, str]]
    programmes: Sequence[Mapping[str, str]]
    rates: Sequence[Mapping[str, str]]

    def category(self, code: str) -> str:
        """The category of a merchant category code; `other` for one that is not listed."""
        found = (c["category"] for c in self.categories if c["merchant_category_code"] == code)
        return next(found, "other")

    @staticmethod
    def _valid(rows: Iterable[Mapping[str, str]], day: date, **match: str) -> Mapping[str, str]:
        for row in rows:
            if all(row[name] == value for name, value in match.items()):
                ends = date.fromisoformat(row["valid_to"]) if row["valid_to"] else date.max
                if date.fromisoformat(row["valid_from"]) <= day < ends:
                    return row
        return defaultdict(lambda: "0")

    def interchange_rate(self, category: str, day: date) -> Decimal:
        """Interchange as a fraction of the amount."""
        return Decimal(self._valid(self.interchange, day, category=category)["interchange_rate"])

    def cash_back_rate(self, programme: str, category: str, day: date) -> Decimal:
        """Cash back as a fraction of the amount."""
        row = self._valid(self.rates, day, programme=programme, category=category)
        return Decimal(row["cash_back_rate"])

    def programme(self, programme: str, day: date) -> Mapping[str, str]:
        """The terms of a programme on a day."""
        return self._valid(self.programmes, day, programme=programme)


@dataclass
class Enrolment:
    """An unbroken time in one programme; `left_at` is None while it lasts."""

    programme: str
    enrolled_at: datetime
    left_at: datetime | None


def enrolments(customers: Iterable[Version]) -> dict[int, list[Enrolment]]:
    """Per customer the times in a programme, from the versions of the customers."""
    result: dict[int, list[Enrolment]] = defaultdict(list)
    for version in sorted(customers, key=lambda v: (v.key, v.valid_from_at, v.valid_from)):
        programme = version.row["cash_back_programme"]
        if programme is None or version.row["status"] != "active":
            continue
        own = result[version.key]
        if own and own[-1].programme == programme and own[-1].left_at == version.valid_from_at:
            own[-1].left_at = version.valid_to_at
        else:
            own.append(Enrolment(programme, version.valid_from_at, version.valid_to_at))
    return result


def _programme_at(own: Sequence[Enrolment], moment: datetime) -> str | None:
    if not own:
        return None
    return next((e for e in reversed(own) if e.enrolled_at <= moment), own[0]).programme


def ledger(
    transactions: Iterable[Row], enrolled: Mapping[int, list[Enrolment]], terms: Terms
) -> dict[int, tuple[Decimal, Decimal]]:
    """Per transaction id: interchange and cash back, in US dollars."""
    entries: dict[int, tuple[Decimal, Decimal]] = {}
    granted: dict[tuple[int, tuple[int, int], str | None], Decimal] = defaultdict(Decimal)
    purchases: dict[int, Row] = {}
    refunded: dict[int, Decimal] = defaultdict(Decimal)
    ordered = sorted(transactions, key=lambda t: (t["transacted_at"], t["transaction_id"]))
    for transaction in (t for t in ordered if t["transaction_type"] == "purchase"):
        moment = transaction["transacted_at"]
        category = terms.category(transaction["merchant_category_code"])
        programme = _programme_at(enrolled.get(transaction["customer_id"], []), moment)
        amount = transaction["amount_usd"]
        interchange = cents(amount * terms.interchange_rate(category, moment.date()))
        cash_back = Decimal("0.00")
        if programme is not None:
            pot = (transaction["customer_id"], (moment.year, moment.month), programme)
            cap = Decimal(terms.programme(programme, moment.date())["monthly_cap_usd"])
            rate = terms.cash_back_rate(programme, category, moment.date())
            cash_back = min(cents(amount * rate), cap - granted[pot])
            granted[pot] += cash_back
        entries[transaction["transaction_id"]] = (interchange, cash_back)
        purchases[transaction["transaction_id"]] = transaction
    for transaction in (t for t in ordered if t["transaction_type"] != "purchase"):
        original = purchases.get(transaction["original_transaction_id"])
        if original is None:
            entries[transaction["transaction_id"]] = (Decimal(0), Decimal(0))
            continue
        bought = original["amount_usd"]
        earned = entries[original["transaction_id"]]
        before = max(bought - refunded[original["transaction_id"]], Decimal(0))
        refunded[original["transaction_id"]] += transaction["amount_usd"]
        after = max(bought - refunded[original["transaction_id"]], Decimal(0))
        entries[transaction["transaction_id"]] = tuple(  # type: ignore[assignment]  # two of two
            cents(part * after / bought) - cents(part * before / bought) for part in earned
        )
    return entries


@dataclass
class Month:
    """A customer's month: net = interchange + fee - cash back - servicing."""

    spend: Decimal = Decimal(0)
    interchange: Decimal = Decimal(0)
    cash_back: Decimal = Decimal(0)
    fee: Decimal = Decimal(0)
    servicing: Decimal = Decimal(0)

    @property
    def net(self) -> Decimal:
        """What the bank keeps, in US dollars."""
        return self.interchange + self.fee - self.cash_back - self.servicing


def monthly(
    transactions: Sequence[Row], enrolled: Mapping[int, list[Enrolment]], terms: Terms
) -> dict[tuple[int, date], Month]:
    """Per customer and first day of the month."""
    entries = ledger(transactions, enrolled, terms)
    months: dict[tuple[int, date], Month] = defaultdict(Month)
    for transaction in transactions:
        month = months[
            transaction["customer_id"], transaction["transacted_at"].date().replace(day=1)
        ]
        interchange, cash_back = entries[transaction["transaction_id"]]
        sign = 1 if transaction["transaction_type"] == "purchase" else -1
        month.spend += sign * transaction["amount_usd"]
        month.interchange += interchange
        month.cash_back += cash_back
    for first in {month for _, month in months}:
        following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
        for customer, own in enrolled.items():
            touching = [
                e
                for e in own
                if e.enrolled_at.date() < following
                and (e.left_at is None or e.left_at.date() > first)
            ]
            if touching:
                programme = terms.programme(touching[-1].programme, first)
                months[customer, first].fee = Decimal(programme["monthly_fee_usd"])
                months[customer, first].servicing = Decimal(programme["monthly_servicing_cost_usd"])
    return months


def break_even(months: Mapping[tuple[int, date], Month]) -> dict[int, tuple[Decimal | None, str]]:
    """Per customer: the monthly spend at which the net is zero, or None; and the status."""
    by_customer: dict[int, list[Month]] = defaultdict(list)
    for (customer, _), month in months.items():
        by_customer[customer].append(month)
    result: dict[int, tuple[Decimal | None, str]] = {}
    for customer, own in by_customer.items():
        spend = sum((m.spend for m in own), Decimal(0))
        margin = sum((m.interchange - m.cash_back for m in own), Decimal(0))
        fixed = sum((m.servicing - m.fee for m in own), Decimal(0))
        net = sum((m.net for m in own), Decimal(0))
        if margin <= 0:
            result[customer] = (None, "never")
        else:
            threshold = cents(fixed * spend / (margin * len(own))) if fixed > 0 else Decimal(0)
            result[customer] = (threshold, "above" if net >= 0 else "below")
    return result


def region(row: Row, boxes: Iterable[Mapping[str, str]]) -> str | None:
    """The region of a click's place; None without a place, `elsewhere` for one in no box."""
    if row["latitude"] is None or row["longitude"] is None:
        return None
    for box in boxes:
        inside = float(box["south_latitude"]) <= row["latitude"] < float(box["north_latitude"])
        across = float(box["west_longitude"]) <= row["longitude"] < float(box["east_longitude"])
        if inside and across:
            return box["region"]
    return "elsewhere"


@dataclass
class Session:
    """Clicks of one customer without a long silence between them, in the order they happened."""

    customer: int
    clicks: list[Row]

    def first(self, name: str) -> Any:
        """The first value of a field that a click tells; None where none does."""
        return next((click[name] for click in self.clicks if click[name] is not None), None)

    @property
    def started_at(self) -> datetime:
        """When it began, UTC."""
        return self.clicks[0]["occurred_at"]  # type: ignore[no-any-return]  # a row's field

    @property
    def ended_at(self) -> datetime:
        """When its last click happened, UTC."""
        return self.clicks[-1]["occurred_at"]  # type: ignore[no-any-return]  # a row's field


def sessions(clicks: Iterable[Row], customers: Iterable[int], gap: timedelta) -> list[Session]:
    """The sessions of these customers, from their clicks in any order."""
    found: list[Session] = []
    known = set(customers)
    own = [click for click in clicks if click["customer_id"] in known]
    for click in sorted(own, key=lambda c: (c["customer_id"], c["occurred_at"], c["event_id"])):
        last = found[-1] if found else None
        if (
            last
            and last.customer == click["customer_id"]
            and click["occurred_at"] - last.ended_at <= gap
        ):
            last.clicks.append(click)
        else:
            found.append(Session(click["customer_id"], [click]))
    return found
