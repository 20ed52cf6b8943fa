"""The jobs of `bench.cdc` as one would write them by hand in DuckDB, for this stream alone.

They check nothing, reject nothing and remember nothing but a sequence and a delete for each key.
The variables `bronze` (the Delta table) and, for a batch, `batch` are set before.
"""

_ENVELOPE = """from_json(value, '{
        "op": "VARCHAR",
        "before": {"id": "BIGINT"},
        "after": {
            "id": "BIGINT", "name": "VARCHAR", "email": "VARCHAR", "region": "VARCHAR",
            "status": "VARCHAR", "amount": "DECIMAL(12,2)", "created_at": "BIGINT",
            "updated_at": "BIGINT"
        },
        "source": {"lsn": "BIGINT"}
    }')"""

_ROW = """coalesce(envelope.after.id, envelope.before.id) as id,
    envelope.after.name,
    envelope.after.email,
    envelope.after.region,
    envelope.after.status,
    envelope.after.amount,
    make_timestamp(envelope.after.created_at) as created_at,
    make_timestamp(envelope.after.updated_at) as updated_at,
    envelope.op = 'd' as is_deleted,
    envelope.source.lsn as lsn"""

PARSE_ALL = f"""
create table accounts as
with changes as (
    select {_ROW}
    from (select {_ENVELOPE} as envelope from delta_scan(getvariable('bronze')))
)
select unnest(winner)
from (select arg_max(changes, lsn) as winner from changes group by id)
"""  # noqa: S608 - constants

WINNERS_FIRST = f"""
create table accounts as
with slim as (
    select
        value,
        json_extract_string(value, ['$.source.lsn', '$.after.id', '$.before.id']) as fields
    from delta_scan(getvariable('bronze'))
),
winners as (
    select arg_max(value, cast(fields[1] as bigint)) as value
    from slim
    group by coalesce(fields[2], fields[3])
)
select {_ROW}
from (select {_ENVELOPE} as envelope from winners)
"""  # noqa: S608 - constants

# One batch on what stands: staged, guarded, then delete and insert in one transaction.
BATCH = (
    f"""
    create or replace temp table newest as
    with changes as (
        select {_ROW}
        from (
            select {_ENVELOPE} as envelope
            from delta_scan(getvariable('bronze'))
            where batch_id = getvariable('batch')
        )
    )
    select unnest(winner)
    from (select arg_max(changes, lsn) as winner from changes group by id)
    """,  # noqa: S608 - constants
    "create table if not exists accounts as select * from newest limit 0",
    """
    create or replace temp table staged as
    select newest.*
    from newest
    left join accounts using (id)
    where accounts.lsn is null or newest.lsn > accounts.lsn
    """,
    "begin",
    "delete from accounts using staged where accounts.id = staged.id",
    "insert into accounts select * from staged",
    "commit",
)
