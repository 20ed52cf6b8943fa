with

changes as (
    {{ debezium_changes(
        source('bronze', 'card_transactions'),
        feed='card_transactions',
        columns={
            'transaction_id': 'bigint',
            'account_id': 'bigint',
            'customer_id': 'bigint',
            'transaction_type': 'string',
            'original_transaction_id': 'bigint',
            'merchant_name': 'string',
            'merchant_category_code': 'string',
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
    transaction_type,
    original_transaction_id,
    merchant_name,
    merchant_category_code,
    amount_usd,
    currency,
    transacted_at,
    updated_at,
    {{ change_columns() }}
from renamed
