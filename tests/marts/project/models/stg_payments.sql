with

changes as (
    {{ debezium_changes(
        source('bronze', 'payments'),
        feed='payments',
        columns={
            'payment_id': 'bigint',
            'customer_id': 'bigint',
            'kind': 'string',
            'amount_usd': 'decimal(18,2)',
            'paid_at': 'timestamp',
        },
        keys=['payment_id'],
    ) }}
)

select * from changes
