with

changes as (
    {{ debezium_changes(
        source('bronze', 'accounts'),
        feed='accounts',
        columns={
            'account_id': 'bigint',
            'customer_id': 'bigint',
            'account_type': 'string',
            'currency': 'string',
            'balance': 'decimal(18,2)',
            'opened_at': 'timestamp',
            'updated_at': 'timestamp',
        },
        keys=['account_id'],
    ) }}
),

renamed as (
    select
        *,
        balance as balance_usd
    from changes
)

select
    account_id,
    customer_id,
    account_type,
    currency,
    balance_usd,
    opened_at,
    updated_at,
    {{ change_columns() }}
from renamed
