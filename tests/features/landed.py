"""A random bank whose records land late, twice, corrected and deleted, and what was known when."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from tests.support.lakehouse import Lakehouse, envelope

Row = Mapping[str, Any]
START = datetime(2026, 1, 3)
END = datetime(2026, 6, 20)
MOMENTS = [datetime(2026, month, 1) for month in range(1, 7)]
CATEGORIES = {"5411": "groceries", "4511": "travel", "7011": "travel", "5812": "dining"}
KEYS = {
    "card_transactions": "transaction_id",
    "accounts": "account_id",
    "customers": "customer_id",
    "purchase_trends": "customer_id",
}


@dataclass(frozen=True)
class Record:
    """One change: `row` is None for a delete, `known_at` the full minute after it was landed."""

    feed: str
    key: int
    sequence: int
    row: Row | None
    happened_at: datetime
    landed_at: datetime

    @property
    def known_at(self) -> datetime:
        """When it counts as known."""
        return self.landed_at.replace(second=0) + timedelta(minutes=1)


def _micros(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000


class Bank:
    """Records in the order of their arrival; they are landed in batches, one per landing."""

    def __init__(self, seed: int, customers: int = 12) -> None:
        self._random = random.Random(seed)
        self._lsn = 0
        # Several feeds land within one minute.
        hours = sorted(self._random.randint(0, 4000) for _ in range(24))
        landings = [START + timedelta(hours=h, minutes=7, seconds=41) for h in hours]
        self._landings = [*landings, END]
        self.customers = range(1, customers + 1)
        made = [record for customer in self.customers for record in self._life(customer)]
        made += [record for number in range(1, 260) for record in self._transaction(number)]
        resent = [
            Record(*(*vars(r).values(),)[:-1], self._landing(r.landed_at, 0.9))
            for r in made
            if self._random.random() < 0.1
        ]
        everything = made + resent
        self._random.shuffle(everything)
        self.records = sorted(everything, key=lambda record: record.landed_at)

    def _landing(self, happened_at: datetime, late: float) -> datetime:
        """The next landing, or with this probability one of those that follow."""
        following = [landing for landing in self._landings if landing > happened_at]
        if not following:
            return self._landings[-1]
        return self._random.choice(following) if self._random.random() < late else following[0]

    def _record(self, feed: str, key: int, row: Row | None, at: datetime) -> Record:
        self._lsn += 1
        sequence = _micros(at) // 1000 if feed == "purchase_trends" else self._lsn
        return Record(feed, key, sequence, row, at, self._landing(at, 0.3))

    def _life(self, customer: int) -> Iterator[Record]:
        pick = self._random
        moment = START + timedelta(hours=pick.randint(0, 2000))
        born = moment
        for _ in range(pick.randint(1, 5)):
            programme = pick.choice(["everyday", "premier", None])
            row = {"cash_back_programme": programme, "created_at": born}
            gone = pick.random() < 0.1
            yield self._record("customers", customer, None if gone else row, moment)
            moment += timedelta(hours=pick.randint(1, 900))
        for account in (customer * 10, customer * 10 + 1):
            moment = born
            for _ in range(pick.randint(1, 6)):
                balance = Decimal(pick.randint(0, 999999)) / 100
                row = {"customer_id": customer, "currency": "USD", "balance": balance}
                gone = pick.random() < 0.15
                yield self._record("accounts", account, None if gone else row, moment)
                moment += timedelta(hours=pick.randint(1, 900))
        moment = born
        for _ in range(pick.randint(1, 6)):
            row = {
                "number_of_concert_tickets": pick.randint(0, 4),
                "number_of_comedy_shows": pick.choice([None, 1]),
                "number_of_sport_events": pick.randint(0, 2),
                "number_of_online_txns": pick.randint(0, 14),
            }
            gone = pick.random() < 0.1
            yield self._record("purchase_trends", customer, None if gone else row, moment)
            moment += timedelta(hours=pick.randint(1, 900))

    def _transaction(self, number: int) -> Iterator[Record]:
        pick = self._random
        at = START + timedelta(minutes=pick.randint(0, 230_000))
        row = {
            "customer_id": pick.choice(self.customers),
            "transaction_type": pick.choice(["purchase"] * 5 + ["refund", "reversal"]),
            "merchant_category_code": pick.choice([*CATEGORIES, "1234"]),
            "amount": Decimal(pick.randint(1, 90_000)) / 100,
            "currency": "USD",
            "transacted_at": at,
        }
        yield self._record("card_transactions", number, row, at)
        if pick.random() < 0.3:
            at += timedelta(hours=pick.randint(1, 600))
            changed = pick.choice(
                [
                    {"amount": row["amount"] + 1},
                    {"customer_id": pick.choice(self.customers)},
                    {"transacted_at": row["transacted_at"] - timedelta(days=20)},
                ]
            )
            yield self._record("card_transactions", number, {**row, **changed}, at)
        if pick.random() < 0.15:
            at += timedelta(hours=pick.randint(1, 600))
            yield self._record("card_transactions", number, None, at)

    @property
    def landings(self) -> list[datetime]:
        """The landings that have records."""
        return sorted({record.landed_at for record in self.records})

    def land(self, lakehouse: Lakehouse, landings: Sequence[datetime]) -> None:
        """Append the records of these landings to bronze."""
        for landing in landings:
            for feed, key in KEYS.items():
                values = [
                    _text(record, key)
                    for record in self.records
                    if record.landed_at == landing and record.feed == feed
                ]
                batch_id = self.landings.index(landing) + 1
                at = landing.replace(tzinfo=UTC)
                lakehouse.land(feed, values, batch_id=batch_id, landed_at=at)

    def _visible(self, known_at: datetime) -> dict[str, dict[int, list[Record]]]:
        """Per feed and key the records that were known, in the order of their arrival."""
        seen: dict[str, dict[int, list[Record]]] = {feed: {} for feed in KEYS}
        for record in self.records:
            if record.known_at <= known_at:
                seen[record.feed].setdefault(record.key, []).append(record)
        return seen

    def _is_seen(self, customer: int, moment: datetime, known_at: datetime) -> bool:
        visible = self._visible(known_at)
        return any(
            t["transacted_at"] < moment
            and (
                t["transaction_type"] == "purchase"
                or t["transacted_at"] >= moment - timedelta(days=90)
            )
            for t in _transactions(visible, customer)
        ) or any(
            record.happened_at < moment and _owner(feed, records) == customer
            for feed in ("customers", "accounts", "purchase_trends")
            for records in visible[feed].values()
            for record in records
        )

    def features(self, customer: int, moment: datetime, known_at: datetime) -> Row | None:
        """What was known at `known_at` of the time before `moment`; None if never anything."""
        times = {moment, *(r.known_at for r in self.records if moment < r.known_at <= known_at)}
        if not any(self._is_seen(customer, moment, time) for time in times):
            return None
        visible = self._visible(known_at)
        transactions = [t for t in _transactions(visible, customer) if t["transacted_at"] < moment]
        purchases = [t for t in transactions if t["transaction_type"] == "purchase"]

        def within(rows: list[Row], days: int) -> list[Row]:
            return [t for t in rows if t["transacted_at"] >= moment - timedelta(days=days)]

        def spent(rows: list[Row]) -> Decimal:
            return sum(
                (t["amount"] * (1 if t in purchases else -1) for t in rows), start=Decimal(0)
            )

        bought = spent(within(purchases, 90))
        refunded = bought - spent(within(transactions, 90))
        travel = spent([t for t in within(purchases, 90) if _category(t) == "travel"])
        person = _newest(visible["customers"].get(customer, []), moment)
        pattern = _newest(visible["purchase_trends"].get(customer, []), moment)
        accounts = [
            newest
            for records in visible["accounts"].values()
            if _owner("accounts", records) == customer
            and (newest := _newest(records, moment)) is not None
        ]
        online = pattern["number_of_online_txns"] if pattern else None
        return {
            "tenure_days": (moment.date() - person["created_at"].date()).days if person else None,
            "cash_back_programme": person["cash_back_programme"] if person else None,
            "balance_usd": sum(a["balance"] for a in accounts) if accounts else None,
            "number_of_online_txns": online,
            "engagement_level": (
                "HIGH" if (online or 0) > 10 else "MEDIUM" if (online or 0) > 2 else "LOW"
            ),
            "number_of_events": (
                sum(v or 0 for k, v in pattern.items() if k != "number_of_online_txns")
                if pattern
                else None
            ),
            "purchases_30d": len(within(purchases, 30)),
            "purchases_90d": len(within(purchases, 90)),
            "spend_30d_usd": spent(within(transactions, 30)),
            "spend_90d_usd": spent(within(transactions, 90)),
            "average_purchase_90d_usd": _ratio(bought, len(within(purchases, 90)), 1),
            "categories_90d": len({_category(t) for t in within(purchases, 90)}),
            "travel_share_90d_pct": _ratio(travel, bought, 100),
            "refund_share_90d_pct": _ratio(refunded, bought, 100),
            "days_since_last_purchase": (
                (moment.date() - max(t["transacted_at"] for t in purchases).date()).days
                if purchases
                else None
            ),
        }


def _category(transaction: Row) -> str:
    return CATEGORIES.get(transaction["merchant_category_code"], "other")


def _ratio(part: Decimal, whole: Decimal | int, scale: int) -> Decimal | None:
    if not whole:
        return None
    return (part * scale / whole).quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def _newest(records: Sequence[Record], before: datetime) -> Row | None:
    """The row of the greatest sequence among what had happened; None for a delete."""
    happened = [record for record in records if record.happened_at < before]
    return max(happened, key=lambda record: record.sequence).row if happened else None


def _owner(feed: str, records: Sequence[Record]) -> int | None:
    if feed != "accounts":
        return records[0].key
    return next((record.row["customer_id"] for record in records if record.row), None)


def _transactions(visible: dict[str, dict[int, list[Record]]], customer: int) -> list[Row]:
    """The card transactions of a customer as they stood."""
    newest = (max(r, key=lambda r: r.sequence).row for r in visible["card_transactions"].values())
    return [row for row in newest if row and row["customer_id"] == customer]


def _text(record: Record, key: str) -> str:
    at_ms = _micros(record.happened_at) // 1000
    if record.feed == "purchase_trends":
        names = {"customer_id": str(record.key)}
        if record.row is None:
            return envelope("d", names, 1, at_ms=at_ms)
        row = {**names, **record.row, "datetime_created": at_ms, "datetime_updated": at_ms}
        return envelope("u", row, 1, at_ms=at_ms)
    if record.row is None:
        return envelope("d", {key: record.key}, record.sequence, at_ms=at_ms)
    row = {key: record.key} | {
        name: _micros(value)
        if isinstance(value, datetime)
        else str(value)
        if isinstance(value, Decimal)
        else value
        for name, value in record.row.items()
    }
    return envelope("u", row, record.sequence, at_ms=at_ms)
