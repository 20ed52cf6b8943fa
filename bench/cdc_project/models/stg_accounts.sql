{{ config(materialized='view') }}

with

changes as (
    {{ debezium_changes(
        source('bronze', 'accounts'),
        feed='accounts',
        columns={
            'id': 'bigint',
            'name': 'string',
            'email': 'string',
            'region': 'string',
            'status': 'string',
            'amount': 'decimal(12,2)',
            'created_at': 'timestamp',
            'updated_at': 'timestamp',
        },
        keys=['id'],
    ) }}
)

select
    id,
    name,
    email,
    region,
    status,
    amount,
    created_at,
    updated_at,
    {{ change_columns() }}
from changes
