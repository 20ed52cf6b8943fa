"""The bytes of the topics: Debezium envelopes as its PostgreSQL connector 3.6 writes them.

Everything is put together from text that needs no escaping (`personas` holds no quotes and no
backslashes): one JSON encoder call per record would cost more than the whole simulation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import NamedTuple

NO_LSN = "null"
_INVENTED = {"int32": "0", "int64": "0", "string": '""'}


class Column(NamedTuple):
    """A column of a bank table as Debezium describes it; `type` is that of Kafka Connect."""

    name: str
    type: str
    nullable: bool = False
    logical: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the bank's database, with the pieces of its envelopes made ready."""

    name: str
    key: str
    key_is_text: bool
    columns: tuple[Column, ...]
    opening: str
    middle: str
    closing: str
    key_opening: str
    key_closing: str

    def key_json(self, key: int) -> str:
        """The Kafka key of a row."""
        return f"{self.key_opening}{key}{self.key_closing}"

    def before_delete(self, key: int) -> str:
        """A delete's `before` under default replica identity: the key, else inventions."""
        fields = (
            f'"{column.name}":'
            + (
                (f'"{key}"' if self.key_is_text else str(key))
                if column.name == self.key
                else "null"
                if column.nullable
                else _INVENTED[column.type]
            )
            for column in self.columns
        )
        return "{" + ",".join(fields) + "}"


def _connect_schema(topic: str, columns: tuple[Column, ...]) -> str:
    """The `schema` half of a record written with schemas.enable=true."""
    fields = [
        {"type": column.type, "optional": column.nullable}
        | ({"name": column.logical, "version": 1} if column.logical else {})
        | {"field": column.name}
        for column in columns
    ]

    def field(name: str, kind: str, optional: bool) -> dict[str, object]:
        return {"type": kind, "optional": optional, "field": name}

    image = {"type": "struct", "fields": fields, "optional": True, "name": f"{topic}.Value"}
    source = [
        field("version", "string", False),
        field("connector", "string", False),
        field("name", "string", False),
        field("ts_ms", "int64", False),
        {
            "type": "string",
            "optional": True,
            "name": "io.debezium.data.Enum",
            "version": 1,
            "parameters": {
                "allowed": "true,first,first_in_data_collection,last_in_data_collection,last,"
                "false,incremental"
            },
            "default": "false",
            "field": "snapshot",
        },
        field("db", "string", False),
        field("sequence", "string", True),
        field("ts_us", "int64", True),
        field("ts_ns", "int64", True),
        field("schema", "string", False),
        field("table", "string", False),
        field("txId", "int64", True),
        field("lsn", "int64", True),
        field("xmin", "int64", True),
        field("origin", "string", True),
        field("origin_lsn", "int64", True),
    ]
    transaction = [
        field("id", "string", False),
        field("total_order", "int64", False),
        field("data_collection_order", "int64", False),
    ]
    schema = {
        "type": "struct",
        "fields": [
            image | {"field": "before"},
            image | {"field": "after"},
            {
                "type": "struct",
                "fields": source,
                "optional": False,
                "name": "io.debezium.connector.postgresql.Source",
                "version": 1,
                "field": "source",
            },
            {
                "type": "struct",
                "fields": transaction,
                "optional": True,
                "name": "event.block",
                "version": 1,
                "field": "transaction",
            },
            field("op", "string", False),
            field("ts_ms", "int64", True),
            field("ts_us", "int64", True),
            field("ts_ns", "int64", True),
        ],
        "optional": False,
        "name": f"{topic}.Envelope",
        "version": 2,
    }
    return json.dumps(schema, separators=(",", ":"))


def _table(name: str, key: str, columns: tuple[Column, ...], *, key_is_text: bool = False) -> Table:
    return Table(
        name,
        key,
        key_is_text,
        columns,
        opening='{"before":',
        middle=f',"schema":"public","table":"{name}","txId":',
        closing="}",
        key_opening=f'{{"{key}":"' if key_is_text else f'{{"{key}":',
        key_closing='"}' if key_is_text else "}",
    )


def _with_schema(table: Table, topic: str) -> Table:
    schema = _connect_schema(topic, table.columns)
    return replace(
        table, opening=f'{{"schema":{schema},"payload":{table.opening}', closing=table.closing + "}"
    )


def _micros(name: str) -> Column:
    return Column(name, "int64", logical="io.debezium.time.MicroTimestamp")


_CUSTOMER = Column("customer_id", "int32")
_AMOUNT = Column("amount", "string")
_CURRENCY = Column("currency", "string")

CUSTOMERS = _table(
    "customers",
    "customer_id",
    (
        _CUSTOMER,
        Column("full_name", "string"),
        Column("email", "string", nullable=True),
        Column("birth_date", "int32", nullable=True, logical="io.debezium.time.Date"),
        Column("region", "string"),
        Column("cash_back_programme", "string"),
        Column("status", "string"),
        _micros("created_at"),
        _micros("updated_at"),
    ),
)
ACCOUNTS = _table(
    "accounts",
    "account_id",
    (
        Column("account_id", "int32"),
        _CUSTOMER,
        Column("account_type", "string"),
        _CURRENCY,
        Column("balance", "string"),
        _micros("opened_at"),
        _micros("updated_at"),
    ),
)
CARD_TRANSACTIONS = _table(
    "card_transactions",
    "transaction_id",
    (
        Column("transaction_id", "int32"),
        Column("account_id", "int32"),
        _CUSTOMER,
        Column("transaction_type", "string"),
        Column("original_transaction_id", "int32", nullable=True),
        Column("merchant_name", "string"),
        Column("merchant_category_code", "string"),
        _AMOUNT,
        _CURRENCY,
        _micros("transacted_at"),
        _micros("updated_at"),
    ),
)
CHECKING_TRANSACTIONS = _table(
    "checking_transactions",
    "transaction_id",
    (
        Column("transaction_id", "int32"),
        Column("account_id", "int32"),
        _CUSTOMER,
        Column("direction", "string"),
        Column("purpose", "string"),
        _AMOUNT,
        _CURRENCY,
        _micros("transacted_at"),
        _micros("updated_at"),
    ),
)
LOAN_APPLICATIONS = _table(
    "loan_applications",
    "application_id",
    (
        Column("application_id", "int32"),
        _CUSTOMER,
        Column("product", "string"),
        _AMOUNT,
        Column("term_months", "int32"),
        Column("status", "string"),
        _micros("submitted_at"),
        _micros("updated_at"),
    ),
)
PURCHASE_TRENDS = _with_schema(
    _table(
        "purchase_trends",
        "customer_id",
        (
            Column("date", "string"),
            Column("number_of_concert_tickets", "int32"),
            Column("number_of_comedy_shows", "int32"),
            Column("number_of_sport_events", "int32"),
            Column("number_of_online_txns", "int32"),
            Column("home_mortgage_purchased_ts", "int64", nullable=True),
            Column("customer_id", "string"),
            Column("datetime_created", "int64"),
            Column("datetime_updated", "int64"),
        ),
        key_is_text=True,
    ),
    "purchase_trends",
)
TABLES = (
    CUSTOMERS,
    ACCOUNTS,
    CARD_TRANSACTIONS,
    CHECKING_TRANSACTIONS,
    LOAN_APPLICATIONS,
    PURCHASE_TRENDS,
)


def envelope(
    table: Table,
    op: str,
    before: str,
    after: str,
    committed_us: int,
    captured_us: int,
    tx_id: int,
    lsn: int,
    last_commit_lsn: str,
    snapshot: str = "false",
) -> str:
    """One change as Debezium writes it; `before` and `after` are the row as JSON text, or `null`.

    `committed_us` and `tx_id` are shared by all changes of a transaction; `last_commit_lsn` is
    that of the transaction before, or `NO_LSN` in a snapshot.
    """
    committed, captured, lsn_digits = str(committed_us), str(captured_us), str(lsn)
    return (
        f'{table.opening}{before},"after":{after},"source":{{'
        f'"version":"3.6.3.Final","connector":"postgresql","name":"bank",'
        f'"ts_ms":{committed[:-3]},"snapshot":"{snapshot}","db":"bank",'
        f'"sequence":"[{last_commit_lsn},\\"{lsn_digits}\\"]","ts_us":{committed},'
        f'"ts_ns":{committed}000{table.middle}{tx_id},"lsn":{lsn_digits},'
        f'"xmin":null,"origin":null,"origin_lsn":null}},'
        f'"transaction":null,"op":"{op}","ts_ms":{captured[:-3]},"ts_us":{captured},'
        f'"ts_ns":{captured}{lsn_digits[-3:]}{table.closing}'
    )
