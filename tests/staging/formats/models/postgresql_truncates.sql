{{ debezium_changes(
    source('bronze', 'postgresql'),
    feed='postgresql',
    columns={
        'id': 'bigint',
        'name': 'string',
        'balance': 'decimal(18,2) base64',
        'active': 'boolean',
        'birth': 'date',
        'created_at': 'timestamp',
        'big': 'string',
    },
    keys=['id'],
    truncates=true,
) }}
