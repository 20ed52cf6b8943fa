with

changes as (
    {{ debezium_changes(
        source('bronze', 'checking_transactions'),
        feed='checking_transactions',
        columns={
            'transaction_id': 'bigint',
            'account_id': 'bigint',
            'customer_id': 'bigint',
            'direction': 'string',
            'purpose': 'string',
            'amount': 'decimal(18,2)',
            'currency': 'string',
            'transacted_at': 'timestamp',
            'updated_at': 'timestamp',
        },
        keys=['transaction_id'],
    ) }}
),

renamed as (
    select
        *,
        amount as amount_usd
    from changes
)

select
    transaction_id,
    account_id,
    customer_id,
    direction,
    purpose,
    amount_usd,
    currency,
    transacted_at,
    updated_at,
    {{ change_columns() }}
from renamed
