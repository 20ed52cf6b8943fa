"""PostgreSQL, Debezium, Apache Kafka, `ingest`, the macros: the state is what the database has."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.models.test_real_input import BERKA_FILES, PROJECT
from tests.real.debezium import debezium
from tests.support.components import running
from tests.support.ingest import ingest_once
from tests.support.lakehouse import Lakehouse
from tests.support.postgres import Postgres, postgres

FEEDS = {
    "debezium_customers": "customers",
    "debezium_accounts": "accounts",
    "debezium_transactions": "transactions",
}
PARTITIONS = {"customers": 3, "accounts": 1, "transactions": 2, "done": 1}
CUSTOMER_COLUMNS = (
    *("id", "name", "email", "balance", "tier", "active", "birth"),
    *("created_at", "updated_at", "big", "meta", "segment"),
)
SCHEMA = """
create table customers (
    id bigint primary key,
    name text not null,
    email text,
    balance numeric(18, 4),
    tier smallint not null default 1,
    active boolean not null default true,
    birth date,
    created_at timestamp(6),
    updated_at timestamptz,
    big text,
    meta jsonb
);
alter table customers alter column big set storage external;
create table accounts (id bigint primary key, owner text not null, amount numeric(18, 2), big text);
alter table accounts alter column big set storage external;
alter table accounts replica identity full;
create table transactions (
    id bigint primary key, customer_id bigint, amount numeric(18, 4), ccy text, at timestamp(6)
);
create table done (id bigint primary key);
"""
# What stands before Debezium starts arrives as its snapshot.
BEFORE = """
insert into customers
select
    n, 'name ' || n, 'n' || n || '@bank.example', n * 1000.0001, n % 3, n % 2 = 0,
    date '1960-01-01' + n::int * 97, timestamp '2026-01-02 03:04:05.123456' + n * interval '1 hour',
    timestamptz '2026-01-02 03:04:05.123456+00', null, jsonb_build_object('n', n, 'ü', null)
from generate_series(1, 40) as n;
insert into accounts select n, 'owner ' || n, n * 0.01, null from generate_series(1, 10) as n;
"""
FIRST = """
insert into customers (id, name, big)
select n, 'large ' || n, repeat(md5(n::text), 4000) from generate_series(41, 45) as n;
insert into customers (id, name, balance) values (46, '', -99999999999999.9999), (47, 'x', 0.0001);
update customers set tier = tier + 1, updated_at = '2026-02-01 00:00:00.000001+01' where id % 4 = 0;
update customers set email = null, balance = null, meta = null where id = 7;
delete from customers where id in (2, 3, 44);
insert into customers (id, name) values (3, 'a new customer under an old number');
begin;
update customers set name = 'first' where id = 5;
update customers set name = 'second' where id = 5;
delete from customers where id = 6;
insert into customers (id, name) values (6, 'in one transaction');
commit;
begin; update customers set name = 'never'; rollback;
update customers set tier = 9 where id = 41;
insert into transactions
select n, n % 40, n * 1.0001, 'USD', timestamp '2026-03-01' + n * interval '1 second'
from generate_series(1, 30) as n;
update accounts set amount = amount + 1000000000.01 where id < 5;
insert into accounts values (11, 'large', 0, repeat(md5('11'), 4000));
"""
# A column comes, a key changes (also to one that was free before), a large value is left alone and
# another is replaced.
SECOND = """
alter table customers add column segment text;
update customers set segment = 'gold' where id % 5 = 0;
insert into customers (id, name, segment) values (48, 'with the new column', 'new');
update customers set id = 1008 where id = 8;
update customers set id = 2 where id = 9;
update customers set tier = 10, segment = 'kept' where id = 42;
update customers set big = repeat('other', 5000) where id = 43;
update customers set big = null where id = 45;
update accounts set id = 100 where id = 1;
delete from accounts where id = 2;
update accounts set amount = 1 where id = 11;
truncate transactions;
insert into transactions values (100, 1, 12.3456, 'EUR', '2026-04-01 00:00:00.5');
"""
TEXTS_OF_TIMES = ("birth", "created_at", "updated_at")


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    yield from running(postgres(), "PostgreSQL")


class Capture:
    """Debezium running from the database into Kafka."""

    def __init__(self, database: Postgres, broker: str, process: subprocess.Popen[bytes]) -> None:
        self._database, self._process = database, process
        self.consumer = Consumer({"bootstrap.servers": broker, "group.id": "done"})
        self._marks = 0

    def wait(self, log: Path) -> None:
        """Return when everything that was done to the database so far is in Kafka.

        Changes are captured in the order of their commits, so one more shows that all before it
        have come.
        """
        self._marks += 1
        self._database.execute(f"insert into done values ({self._marks});")
        deadline = time.monotonic() + 90
        while self._arrived() < self._marks:
            ended = self._process.poll() is not None
            assert not ended and time.monotonic() < deadline, log.read_text()[-2000:]

    def _arrived(self) -> int:
        try:
            return self.consumer.get_watermark_offsets(TopicPartition("bank.public.done", 0))[1]
        except KafkaException:
            return 0  # the partition has no leader yet


@contextmanager
def captured(database: Postgres, broker: str, folder: Path) -> Iterator[Capture]:
    topics = [NewTopic(f"bank.public.{table}", n, 1) for table, n in PARTITIONS.items()]
    client = AdminClient({"bootstrap.servers": broker})
    for future in client.create_topics(topics).values():
        future.result()
    properties = {"decimal.handling.mode": "string", "skipped.operations": "none"}
    engine = debezium(broker, database.port, folder, properties)
    for process in running(engine, "Debezium"):
        capture = Capture(database, broker, process)
        try:
            yield capture
        finally:
            capture.consumer.close()


def as_json(column: str, value: Any) -> Any:
    """A value of the state in the form in which PostgreSQL writes it as JSON."""
    if value is None:
        return None
    if isinstance(value, datetime | date):
        text = value.isoformat()
        # A time without a zone is UTC here; PostgreSQL says so for a timestamptz.
        return text + "+00:00" if column == "updated_at" else text
    return json.loads(value) if column == "meta" else value


def normal(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the database; fractions of seconds as Python writes them, money as decimals."""
    result = dict(row)
    for column in ("created_at", "updated_at", "at"):
        if result.get(column):
            result[column] = datetime.fromisoformat(result[column]).isoformat()
    for column in ("balance", "amount"):
        if result.get(column) is not None:
            result[column] = Decimal(result[column])
    return result


def by_id(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for row in rows}


def state(lakehouse: Lakehouse, name: str, columns: tuple[str, ...]) -> dict[int, dict[str, Any]]:
    names = ", ".join(f'"{column}"' for column in columns)
    found = lakehouse.query(f"select {names} from real.{name} where not _is_deleted")
    return by_id([{c: as_json(c, v) for c, v in zip(columns, row, strict=True)} for row in found])


def test_the_state_is_what_the_database_holds_row_by_row(
    database: Postgres, broker: str, tmp_path: Path
) -> None:
    feeds = {
        feed: {
            "kafka": {"topics": [f"bank.public.{table}"], "batch_rows": 7},
            "format": "debezium",
            "key": ["id"],
        }
        for feed, table in FEEDS.items()
    }
    lakehouse = Lakehouse(tmp_path, project=PROJECT, feeds=[*FEEDS, *BERKA_FILES])
    log = tmp_path / "debezium.log"
    database.execute(SCHEMA)
    database.execute(BEFORE)
    rejected = 0
    with captured(database, broker, tmp_path) as capture:
        for changes in (FIRST, SECOND):
            # The marks go through the same engine: the snapshot must be over before the changes.
            capture.wait(log)
            database.execute(changes)
            capture.wait(log)
            report = ingest_once(tmp_path, feeds, broker)
            assert report["landed"] > 0
            rejected += report["rejected"]
            lakehouse.dbt("run", "--select", *(f"+{feed}_state" for feed in FEEDS))

            without = {"segment": None}  # the column that comes later
            customers = by_id([without | normal(row) for row in database.rows("customers")])
            found = state(lakehouse, "debezium_customers_state", CUSTOMER_COLUMNS)
            assert found.keys() == customers.keys()
            for number, row in customers.items():
                assert found[number] == row

            columns = ("id", "owner", "amount", "big")
            accounts = by_id([normal(row) for row in database.rows("accounts")])
            assert state(lakehouse, "debezium_accounts_state", columns) == accounts

            columns = ("id", "customer_id", "amount", "ccy", "at")
            transactions = by_id([normal(row) for row in database.rows("transactions")])
            found = state(lakehouse, "debezium_transactions_state", columns)
            # A truncate has no rule here: it is rejected with its reason, and the rows stay.
            assert {i: found[i] for i in transactions} == transactions
            assert len(found) == (30 if changes is FIRST else 31)

    assert rejected == 0
    assert lakehouse.query(
        "select _reject_reason, count(*) from real.stg_debezium__transactions"
        " where _reject_reason is not null group by all"
    ) == [("truncate: no rule for truncates is set for this table", 1)]
    for table in ("customers", "accounts"):
        assert (
            lakehouse.query(
                f"select * from real.stg_debezium__{table} where _reject_reason is not null"
            )
            == []
        )
    # Every offset of every partition, tombstones too, is in bronze once.
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "count"})
    for feed, table in FEEDS.items():
        topic = f"bank.public.{table}"
        offsets = [
            (partition, offset)
            for partition in range(PARTITIONS[table])
            for offset in range(consumer.get_watermark_offsets(TopicPartition(topic, partition))[1])
        ]
        path = tmp_path / "bronze" / feed
        landed = lakehouse.query(
            f"select partition, position from delta_scan('{path}') order by all"
        )
        assert landed == offsets
    consumer.close()
