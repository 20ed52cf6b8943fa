{{ debezium_mongodb_changes(
    source('bronze', 'mongodb'),
    feed='mongodb',
    columns={
        '_id': 'string',
        'first_name': 'string',
        'visits': 'bigint',
        'balance': 'decimal(18,2)',
        'seen_at': 'timestamp',
        'address': 'string',
    },
) }}
