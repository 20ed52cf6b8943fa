"""What the simulator hands over: records of the feeds, and files of the vendors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000

TOMBSTONE = "tombstone"
"""The `Record.op` of the null value that follows a delete."""

TOPICS = {
    "customers": "bank.public.customers",
    "accounts": "bank.public.accounts",
    "card_transactions": "bank.public.card_transactions",
    "checking_transactions": "bank.public.checking_transactions",
    "loan_applications": "bank.public.loan_applications",
    "purchase_trends": "purchase_trends",
    "checking_acct": "checking_acct",
    "clickstream": "clickstream",
}
"""Feed name to Kafka topic."""


@dataclass(frozen=True)
class Vendor:
    """How one vendor delivers: a file of `format` every `every_days` days, below `folder`."""

    folder: str
    file_prefix: str
    format: Literal["csv", "tsv", "ndjson", "json"]
    every_days: int
    columns: tuple[str, ...]


VENDORS = {
    "vendor_tickets": Vendor(
        "behavior/tickets",
        "tickets",
        "csv",
        7,
        ("event_id", "customer_id", "event_type", "tickets", "total_price", "purchased_at"),
    ),
    "vendor_travel": Vendor(
        "behavior/travel",
        "bookings",
        "tsv",
        7,
        ("booking_id", "customer_id", "trip_type", "nights", "price", "booked_at"),
    ),
    "vendor_dining": Vendor(
        "behavior/dining",
        "visits",
        "ndjson",
        3,
        ("visit_id", "customer_id", "cuisine", "party_size", "bill", "visited_at"),
    ),
    "vendor_retail": Vendor(
        "behavior/retail",
        "orders",
        "json",
        7,
        ("order_id", "customer_id", "department", "items", "total", "ordered_at"),
    ),
}
"""Feed name to vendor. A row's id is its first column."""

FEEDS = (*TOPICS, *VENDORS)


class Record(NamedTuple):
    """One record of a topic, or one row of a vendor's file.

    `value` is text as it goes over the wire, `None` for a tombstone, and `bytes` only where it was
    spoiled so that it is not UTF-8. `entity` names what decides the Kafka partition. Times are
    microseconds since the epoch; `arrival_us` is when the record reaches the topic or the vendor.
    `op` is Debezium's, `TOMBSTONE`, or empty for feeds that are not change data. `image` is the
    row after the change (JSON text). `flaw` says what was done to the record, empty for nothing.
    """

    feed: str
    key: str | None
    value: str | bytes | None
    entity: str
    happened_us: int
    arrival_us: int
    op: str = ""
    image: str | None = None
    flaw: str = ""


def moved(record: Record, arrival_us: int, flaw: str) -> Record:
    """The record as it arrives at another time, at a third of the cost of `_replace`."""
    feed, key, value, entity, happened_us, _, op, image, _ = record
    fields = (feed, key, value, entity, happened_us, arrival_us, op, image, flaw)
    return tuple.__new__(Record, fields)


class VendorFile(NamedTuple):
    """A vendor's file: `path` is relative to the landing folder, `flaws` are those of its rows."""

    feed: str
    path: str
    content: bytes
    arrival_us: int
    rows: int
    flaws: tuple[str, ...]


Delivery = Record | VendorFile
Batch = list[Record] | VendorFile
"""What is handed on at once; few records, so that they stay in the processor's cache."""


DIGITS_2 = tuple(f"{number:02d}" for number in range(100))
DIGITS_3 = tuple(f"{number:03d}" for number in range(1000))
"""Padded numbers: a look-up costs a tenth of a format specification, and every record has some."""


def money(cents: int) -> str:
    """Cents as a decimal string, `-1205` as `-12.05`."""
    if cents < 0:
        return "-" + money(-cents)
    return f"{cents // 100}.{DIGITS_2[cents % 100]}"
