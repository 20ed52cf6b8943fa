"""A bank of known size as bronze: customers, accounts, patterns, visits, many card transactions.

Every draw is a hash of the record's number, so that the same sizes give the same data.
"""

import re
from pathlib import Path

import duckdb
from deltalake import DeltaTable, write_deltalake

from ingestion.records import BRONZE_SCHEMA, QUARANTINE_SCHEMA

# Transactions of a year; five times the history are as many a year, for five years.
PER_YEAR_MICROS = 365 * 86_400 * 1_000_000
END_MICROS = 1_782_777_600_000_000  # 2026-06-30 00:00 UTC
_LANDED = "timestamptz '2026-06-30 12:00:00+00'"
_ENVELOPE = (
    '\'{"before":null,"after":\' || to_json(after) || \',"source":{"lsn":\' || lsn'
    ' || \',"ts_ms":\' || moment // 1000 || \'},"op":"u","ts_ms":\' || moment // 1000 || \'}\''
)
# A SELECT of value, by feed; $first and $end number the records. `<...>`: see `_query`.
_VALUES = {
    "customers": """
        select <envelope> from (
            select i as lsn, $oldest as moment, {
                customer_id: i, full_name: 'Customer ' || i, email: 'c' || i || '@example.com',
                birth_date: <birth of 15000>,
                region: ['north', 'south', 'east', 'west'][<region of 4> + 1],
                cash_back_programme:
                    ['everyday', 'travel_plus', 'premier', null][<programme of 4> + 1],
                status: if(<status of 20> = 0, 'closed', 'active'),
                created_at: $oldest, updated_at: $oldest
            } as after
            from range($first, $end) as numbers (i)
        )""",
    "accounts": """
        select <envelope> from (
            select i as lsn, $oldest as moment, {
                account_id: i, customer_id: i, account_type: 'checking', currency: 'USD',
                balance: <money(<balance of 2000000>)>,
                opened_at: $oldest, updated_at: $oldest
            } as after
            from range($first, $end) as numbers (i)
        )""",
    "purchase_trends": """
        select <envelope> from (
            select i as lsn, moment, {
                customer_id: cast(i as varchar), date: '2026-06-29',
                number_of_concert_tickets: <concerts of 6>,
                number_of_comedy_shows: <comedy of 3>,
                number_of_sport_events: <sport of 3>,
                number_of_online_txns: <online of 15>,
                home_mortgage_purchased_ts: null,
                datetime_created: $oldest // 1000, datetime_updated: moment // 1000
            } as after
            from (
                select i, $newest - <pattern of 8640000000000> as moment
                from range($first, $end) as numbers (i)
            )
        )""",
    "vendor_dining": """
        select to_json({
            visit_id: 'v' || i, customer_id: <visitor of $customers> + 1, cuisine: 'thai',
            party_size: 2, bill: <money(<bill of 20000>)>,
            visited_at: strftime(
                make_timestamp($newest - <visit of 31536000000000>),
                '%Y-%m-%d %H:%M:%S'
            )
        })
        from range($first, $end) as numbers (i)""",
    "clickstream": """
        select to_json({
            event_id: 'e' || i, customer_id: <clicker of $customers> + 1, page: 'home',
            action: 'view', device: 'ios', latitude: 44.5, longitude: -72.5,
            occurred_at: strftime(
                make_timestamp($newest - <click of 5184000000000>),
                '%Y-%m-%d %H:%M:%S'
            )
        })
        from range($first, $end) as numbers (i)""",
    "card_transactions": """
        select <envelope> from (
            select i as lsn, moment, {
                transaction_id: i, account_id: customer_id, customer_id: customer_id,
                transaction_type: 'purchase', original_transaction_id: null,
                merchant_name: 'Shop', merchant_category_code:
                    ['5812', '4511', '5411', '7922', '5311'][<code of 5> + 1],
                amount: <money((<amount of 30000> + 1))>,
                currency: 'USD', transacted_at: moment, updated_at: moment
            } as after
            from (
                select
                    i,
                    if(
                        $each = 0,
                        <customer of $customers>,
                        (i - $first) * $each + <customer of $each>
                    ) + 1 as customer_id,
                    $newest - <at of $span> as moment
                from range($first, $end) as numbers (i)
            )
        )""",
}


def _query(feed: str) -> str:
    """Return the SELECT, with the envelope of a change, draws as numbers, cents as text."""
    text = _VALUES[feed].replace("<envelope>", _ENVELOPE)
    text = re.sub(r"<(\w+) of (\$?\w+)>", r"cast(hash(i, '\1') % \2 as bigint)", text)
    money = r"cast(cast((\1) / 100 as decimal(18, 2)) as varchar)"
    return re.sub(r"<money\((.*?)\)>", money, text)


class Bank:
    """Bronze tables in a lakehouse folder, of so many customers, with so many years of history."""

    def __init__(self, lakehouse: Path, customers: int, transactions: int, years: int) -> None:
        """Make empty tables; `transactions` are those of a year."""
        self._bronze = lakehouse / "bronze"
        self._customers, self._years = customers, years
        self.transactions = transactions * years
        self._database = duckdb.connect(config={"threads": 2})
        self._batch = 0

    def create(self, feeds: list[str]) -> None:
        """Make the tables that nothing is landed in, too."""
        schemas = {self._bronze / feed: BRONZE_SCHEMA for feed in feeds}
        schemas[self._bronze.parent / "quarantine"] = QUARANTINE_SCHEMA
        for folder, schema in schemas.items():
            folder.mkdir(parents=True)
            DeltaTable.create(str(folder), schema)

    def land_history(self) -> None:
        """Land everything, a feed after the other."""
        for feed in ("customers", "accounts", "purchase_trends"):
            self._land(feed, 1, self._customers + 1)
        self._land("vendor_dining", 1, self._customers + 1)
        self._land("clickstream", 1, 5 * self._customers + 1)
        self._land("card_transactions", 1, self.transactions + 1)

    def land_batch(self, share: float) -> int:
        """Land a new transaction for so many of the customers, spread over all of them, at any time
        of the history, so that most are late; return how many records."""
        count = round(self._customers * share)
        first = self.transactions + 1
        self.transactions += count
        self._land("card_transactions", first, first + count, each=self._customers // count)
        return count

    def _land(self, feed: str, first: int, end: int, each: int = 0) -> None:
        self._batch += 1
        query = _query(feed)
        values = {
            "first": first,
            "end": end,
            "customers": self._customers,
            "each": each,
            "newest": END_MICROS,
            "oldest": END_MICROS - self._years * PER_YEAR_MICROS,
            "span": self._years * PER_YEAR_MICROS,
        }
        step = 1_000_000
        for start in range(first, end, step):
            window = values | {"first": start, "end": min(start + step, end)}
            rows = self._database.execute(
                f"""
                select
                    '{feed}' as source, 0 as partition, {start} + row_number() over () as position,
                    null as key, cast(value as varchar) as value,
                    cast(map {{}} as map(varchar, varchar)) as headers,
                    {_LANDED} as source_timestamp, {_LANDED} as ingested_at,
                    cast({self._batch} as bigint) as batch_id
                from ({query}) as drawn (value)
                """,  # noqa: S608 - our own constants
                {name: value for name, value in window.items() if f"${name}" in query},
            ).to_arrow_table()
            table = str(self._bronze / feed)
            write_deltalake(table, rows.cast(BRONZE_SCHEMA), mode="append")
