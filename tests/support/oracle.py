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

    def programme(self, programme: str, month: date) -> Mapping[str, str]:
        """The terms by which a month is counted: those of its first day, else its first ones."""
        row = self._valid(self.programmes, month, programme=programme)
        if "valid_from" in row:
            return row
        starting = [
            (row["valid_from"], row)
            for row in self.programmes
            if row["programme"] == programme
            and date.fromisoformat(row["valid_from"]).replace(day=1) == month
        ]
        return min(starting, key=lambda pair: pair[0])[1] if starting else defaultdict(lambda: "0")


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


def first_of_month(day: date) -> date:
    """The first day of the month of a date or moment."""
    return date(day.year, day.month, 1)


def following(month: date) -> date:
    """The first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


@dataclass(frozen=True)
class Entry:
    """A card transaction in the ledger; money in US dollars."""

    customer: int
    day: date
    programme: str | None
    version: date | None
    category: str
    spend: Decimal
    interchange: Decimal
    cash_back: Decimal
    withheld: Decimal = Decimal(0)
    cap_left: Decimal | None = None
    is_original_known: bool = True

    @property
    def month(self) -> date:
        """First day of the month."""
        return first_of_month(self.day)


def ledger(
    transactions: Iterable[Row], enrolled: Mapping[int, list[Enrolment]], terms: Terms
) -> dict[int, Entry]:
    """Per transaction id, what the bank earned of it and paid for it."""
    entries: dict[int, Entry] = {}
    granted: dict[tuple[int, date, str | None], Decimal] = defaultdict(Decimal)
    purchases: dict[int, Row] = {}
    refunded: dict[int, Decimal] = defaultdict(Decimal)
    ordered = sorted(transactions, key=lambda t: (t["transacted_at"], t["transaction_id"]))
    for transaction in (t for t in ordered if t["transaction_type"] == "purchase"):
        moment = transaction["transacted_at"]
        customer = transaction["customer_id"]
        category = terms.category(transaction["merchant_category_code"])
        programme = _programme_at(enrolled.get(customer, []), moment)
        amount = transaction["amount_usd"] if transaction["currency"] == "USD" else Decimal(0)
        interchange = cents(amount * terms.interchange_rate(category, moment.date()))
        cash_back = promised = cap_left = Decimal(0)
        version = None
        if programme is not None:
            pot = (customer, first_of_month(moment), programme)
            row = terms.programme(programme, first_of_month(moment))
            version = date.fromisoformat(row["valid_from"]) if "valid_from" in row else None
            promised = cents(amount * terms.cash_back_rate(programme, category, moment.date()))
            cash_back = min(promised, Decimal(row["monthly_cap_usd"]) - granted[pot])
            granted[pot] += cash_back
            cap_left = Decimal(row["monthly_cap_usd"]) - granted[pot]
        entries[transaction["transaction_id"]] = Entry(
            customer,
            moment.date(),
            programme,
            version,
            category,
            amount,
            interchange,
            cash_back,
            promised - cash_back,
            cap_left,
        )  # fmt: skip - two lines read better than ten
        purchases[transaction["transaction_id"]] = transaction
    for transaction in (t for t in ordered if t["transaction_type"] != "purchase"):
        customer = transaction["customer_id"]
        moment = transaction["transacted_at"]
        amount = transaction["amount_usd"] if transaction["currency"] == "USD" else Decimal(0)
        original = purchases.get(transaction["original_transaction_id"])
        if original is None or original["customer_id"] != customer:
            entries[transaction["transaction_id"]] = Entry(
                customer,
                moment.date(),
                _programme_at(enrolled.get(customer, []), moment),
                None,
                terms.category(transaction["merchant_category_code"]),
                -amount,
                Decimal(0),
                Decimal(0),
                is_original_known=False,
            )
            continue
        number = original["transaction_id"]
        bought = original["amount_usd"]
        before = max(bought - refunded[number], Decimal(0))
        refunded[number] += amount
        after = max(bought - refunded[number], Decimal(0))
        interchange, cash_back = (
            cents(part * after / bought) - cents(part * before / bought)
            for part in (entries[number].interchange, entries[number].cash_back)
        )
        entries[transaction["transaction_id"]] = Entry(
            customer,
            moment.date(),
            entries[number].programme,
            entries[number].version,
            entries[number].category,
            -amount,
            interchange,
            cash_back,
        )  # fmt: skip - two lines read better than eight
    return entries


@dataclass
class Month:
    """A customer's month: net = interchange + fee - cash back - servicing."""

    programme: str | None = None
    charged_on: date | None = None
    transactions: int = 0
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
    entries: Mapping[int, Entry],
    enrolled: Mapping[int, list[Enrolment]],
    terms: Terms,
    as_of: date,
) -> dict[tuple[int, date], Month]:
    """Per customer and first day of the month, up to the month of `as_of` or the last entry."""
    months: dict[tuple[int, date], Month] = defaultdict(Month)
    for entry in entries.values():
        month = months[entry.customer, entry.month]
        month.transactions += 1
        month.spend += entry.spend
        month.interchange += entry.interchange
        month.cash_back += entry.cash_back
    for customer, own in enrolled.items():
        first = first_of_month(own[0].enrolled_at)
        last = max([as_of, *(month for other, month in months if other == customer)])
        while first <= last:
            start = datetime(first.year, first.month, 1)
            end = following(first)
            touching = [
                e
                for e in own
                if e.enrolled_at.date() < end and (e.left_at is None or e.left_at > start)
            ]
            if touching and (first <= as_of or (customer, first) in months):
                row = terms.programme(touching[-1].programme, first)
                month = months[customer, first]
                month.programme = touching[-1].programme
                month.charged_on = max(touching[0].enrolled_at.date(), first)
                month.fee = Decimal(row["monthly_fee_usd"])
                month.servicing = Decimal(row["monthly_servicing_cost_usd"])
            first = end
    return months


Days = dict[tuple[int, date], tuple[Decimal, Decimal, Decimal, Decimal, Decimal]]


def daily(entries: Mapping[int, Entry], months: Mapping[tuple[int, date], Month]) -> Days:
    """Per customer and day: spend, interchange, cash back, fee and servicing cost."""
    days: Days = {}

    def add(key: tuple[int, date], *amounts: Decimal) -> None:
        before = days.get(key, (Decimal(0),) * 5)
        days[key] = tuple(a + b for a, b in zip(before, amounts, strict=True))  # type: ignore[assignment]  # five of five

    none = Decimal(0)
    for entry in entries.values():
        add(
            (entry.customer, entry.day), entry.spend, entry.interchange, entry.cash_back, none, none
        )
    for (customer, _), month in months.items():
        if month.charged_on is not None:
            add((customer, month.charged_on), none, none, none, month.fee, month.servicing)
    return days


@dataclass(frozen=True)
class BreakEven:
    """The monthly spend at which the net is zero, None for never; over so many months."""

    months: int
    threshold: Decimal | None
    distance: Decimal | None
    status: str
    is_newest: bool


def break_even(
    months: Mapping[tuple[int, date], Month], as_of: date
) -> dict[tuple[int, str], BreakEven]:
    """Per customer and programme, over the months that are over."""
    judged: dict[tuple[int, str], dict[date, Month]] = defaultdict(dict)
    for (customer, first), month in months.items():
        if month.programme is not None and first < first_of_month(as_of):
            judged[customer, month.programme][first] = month
    newest: dict[int, date] = {}
    for (customer, _), own in judged.items():
        newest[customer] = max(newest.get(customer, date.min), *own)
    result = {}
    for (customer, programme), own in judged.items():
        spend = sum((m.spend for m in own.values()), Decimal(0))
        margin = sum((m.interchange - m.cash_back for m in own.values()), Decimal(0))
        fixed = sum((m.servicing - m.fee for m in own.values()), Decimal(0))
        net = sum((m.net for m in own.values()), Decimal(0))
        threshold = None
        if spend > 0 and margin > 0:
            threshold = max(cents(fixed * spend / (margin * len(own))), Decimal(0))
        if spend <= 0:
            status = "no_spend"
        elif threshold is None:
            status = "never"
        else:
            status = "above" if net >= 0 else "below"
        distance = None if threshold is None else cents(spend / len(own)) - threshold
        result[customer, programme] = BreakEven(
            len(own), threshold, distance, status, newest[customer] in own
        )
    return result


@dataclass(frozen=True)
class Loss:
    """An unbroken row of months with a loss; `loss` in US dollars, positive."""

    last: date
    loss: Decimal
    reason: str


def losses(months: Mapping[tuple[int, date], Month], as_of: date) -> dict[tuple[int, date], Loss]:
    """Per customer and first month with a loss, over the months that are over."""
    lost = {k: m for k, m in months.items() if k[1] < first_of_month(as_of) and m.net < 0}
    result = {}
    for (customer, first), month in lost.items():
        before = date(first.year - (first.month == 1), (first.month - 2) % 12 + 1, 1)
        if (customer, before) in lost:
            continue
        spell, last = [month], first
        while (customer, following(last)) in lost:
            last = following(last)
            spell.append(lost[customer, last])
        if not any(m.transactions for m in spell):
            reason = "no_spend"
        elif sum(m.spend for m in spell) <= 0:
            reason = "refunds"
        elif sum(m.interchange for m in spell) <= sum(m.cash_back for m in spell):
            reason = "never"
        else:
            reason = "below_break_even"
        loss = -sum((m.net for m in spell), Decimal(0))
        result[customer, first] = Loss(last, loss, reason)
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
