"""Change streams of known outcome: Debezium envelopes in a bronze Delta table, and what they mean.

Every draw is a hash of the event's number, so that the same sizes give the same data. The outcome
is computed from the drawn events, which no contestant sees: they read text.
"""

from pathlib import Path

import duckdb
from deltalake import DeltaTable, write_deltalake

from ingestion.records import BRONZE_SCHEMA

TAIL = 10_000
COLUMNS = "id, name, email, region, status, amount, created_at, updated_at"

# $events events over a tenth as many keys; 5 % deletes.
_EVENTS = """
create table events as
with drawn as (
    select
        i as lsn,
        hash(i, 'key') as key_draw,
        hash(i, 'delete') % 100 < 5 as is_deleted,
        cast(hash(i, 'value') % 10000000 as bigint) as draw
    from range($events) as numbers (i)
)
select
    lsn,
    cast(key_draw % greatest($events // 10, 1) as bigint) + 1 as id,
    is_deleted,
    'Customer ' || id as name,
    'c' || draw % 1000 || '@example.com' as email,
    ['north', 'south', 'east', 'west'][draw % 4 + 1] as region,
    if(draw % 10 = 0, 'blocked', 'active') as status,
    cast(draw / 100 as decimal(12, 2)) as amount,
    make_timestamp(1700000000000000 + id * 1000000) as created_at,
    make_timestamp(1780000000000000 + lsn * 1000) as updated_at
from drawn
"""

# 10 % late by up to 10,000 events, 3 % delivered a second time within as many.
_ARRIVALS = """
create table arrivals as
with once as (
    select lsn, lsn + if(hash(lsn, 'late') % 100 < 10, hash(lsn, 'by') % 10000, 0) as arrives_at
    from events
),
delivered as (
    select *, 1 as delivery
    from once
    union all
    select lsn, arrives_at + hash(lsn, 'again') % 10000, 2
    from once
    where hash(lsn, 'twice') % 100 < 3
)
select lsn, row_number() over (order by arrives_at, lsn, delivery) - 1 as position
from delivered
"""

_RECORDS = """
select
    'postgres.public.accounts' as source,
    0 as partition,
    position,
    '{"id":' || id || '}' as key,
    '{"before":' || if(
        is_deleted,
        '{"id":' || id || ',"name":"","email":null,"region":null,"status":null,"amount":"0.00"'
        || ',"created_at":0,"updated_at":0},"after":null',
        'null,"after":{"id":' || id || ',"name":"' || name || '","email":"' || email
        || '","region":"' || region || '","status":"' || status || '","amount":"' || amount
        || '","created_at":' || epoch_us(created_at) || ',"updated_at":' || epoch_us(updated_at)
        || '}'
    ) || ',"source":{"version":"3.6.0.Final","connector":"postgresql","name":"bank","ts_ms":'
    || epoch_ms(updated_at) || ',"ts_us":' || epoch_us(updated_at)
    || ',"snapshot":"false","db":"bank","schema":"public","table":"accounts","txId":' || lsn
    || ',"sequence":"[\\"34359738000\\",\\"34359738368\\"]","lsn":' || lsn
    || ',"xmin":null,"origin":"primary"},"op":"' || if(is_deleted, 'd', 'u') || '","ts_ms":'
    || epoch_ms(updated_at) + 5 || ',"transaction":null}' as value,
    cast(map {} as map(varchar, varchar)) as headers,
    timestamptz '2026-07-01 00:00:00+00' as source_timestamp,
    timestamptz '2026-07-01 00:00:00+00' as ingested_at,
    cast($batch as bigint) as batch_id
from arrivals
join events using (lsn)
where position >= $first and position < $end
order by position
"""

# What stands, and what stood, after the records before $end; and how much of a table is not that.
_TRUTH = """
create or replace temp table landed as
select distinct events.*
from arrivals
join events using (lsn)
where position < $end
"""
_CURRENT = f"""
create or replace temp table truth as
select {COLUMNS} from (
    select *, row_number() over (partition by id order by lsn desc) as place from landed
) where place = 1 and not is_deleted
"""  # noqa: S608 - a constant
_HISTORY = f"""
create or replace temp table truth as
select {COLUMNS}, lsn as valid_from, valid_to from (
    select *, lead(lsn) over (partition by id order by lsn) as valid_to from landed
) where not is_deleted
"""  # noqa: S608 - a constant
_DIFFERENCE = """
select count(*) from (
    (from found except all from truth) union all (from truth except all from found)
)
"""


class Stream:
    """A change stream of some `events`, and `TAIL` more; the sequence of a change is its number."""

    def __init__(self, events: int) -> None:
        """Draw the stream; nothing is written yet."""
        self._database = duckdb.connect(config={"threads": 2})
        self._database.execute("load delta")
        self._database.execute(_EVENTS, {"events": events + TAIL})
        self._database.execute(_ARRIVALS)
        self.records = self._database.sql("from arrivals").count("*").fetchall()[0][0]
        self.loaded = self.records - TAIL

    def land(self, table: Path, first: int, end: int, batch_rows: int) -> None:
        """Append the records from `first` to before `end` as batches after the newest."""
        table.mkdir(parents=True, exist_ok=True)
        if not DeltaTable.is_deltatable(str(table)):
            DeltaTable.create(str(table), BRONZE_SCHEMA)
        batch = DeltaTable(str(table)).version()
        for start in range(first, end, batch_rows):
            batch += 1
            window = {"first": start, "end": min(start + batch_rows, end), "batch": batch}
            rows = self._database.execute(_RECORDS, window).to_arrow_table().cast(BRONZE_SCHEMA)
            write_deltalake(str(table), rows, mode="append")

    def differing(self, database: Path, query: str, end: int, *, history: bool = False) -> int:
        """Return how many rows of a query differ from what the records before `end` mean.

        Its columns are `COLUMNS`, those of a history also its bounds.
        """
        self._database.execute(_TRUTH, {"end": end})
        self._database.execute(_HISTORY if history else _CURRENT)
        with duckdb.connect(database) as connection:
            found = connection.execute(query).to_arrow_table()
        self._database.register("found", found)
        return int(self._database.sql(_DIFFERENCE).fetchall()[0][0])
