{{ debezium_changes(
    source('bronze', 'debezium_transactions'),
    feed='debezium_transactions',
    columns={
        'id': 'bigint',
        'customer_id': 'bigint',
        'amount': 'decimal(18,4)',
        'ccy': 'string',
        'at': 'timestamp',
    },
    keys=['id'],
) }}
