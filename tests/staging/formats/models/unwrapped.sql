{{ debezium_unwrapped_changes(
    source('bronze', 'unwrapped'),
    feed='unwrapped',
    columns={
        'id': 'bigint',
        'name': 'string',
        'balance': 'decimal(18,2)',
        'active': 'boolean',
        'birth': 'date',
        'created_at': 'timestamp',
        'big': 'string',
    },
    keys=['id'],
    large=['big'],
) }}
