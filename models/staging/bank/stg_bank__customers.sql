with

changes as (
    {{ debezium_changes(
        source('bronze', 'customers'),
        feed='customers',
        columns={
            'customer_id': 'bigint',
            'full_name': 'string',
            'email': 'string',
            'birth_date': 'date',
            'region': 'string',
            'cash_back_programme': 'string',
            'status': 'string',
            'created_at': 'timestamp',
            'updated_at': 'timestamp',
        },
        keys=['customer_id'],
    ) }}
)

select
    customer_id,
    full_name,
    email,
    birth_date,
    region,
    cash_back_programme,
    status,
    created_at,
    updated_at,
    {{ change_columns() }}
from changes
