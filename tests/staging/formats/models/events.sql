{{ json_records(
    source('bronze', 'events'),
    feed='events',
    columns={'id': 'string', 'amount': 'decimal(18,2)', 'value': 'int', 'document': 'string'},
    keys=['id'],
    changed_at='at',
) }}
