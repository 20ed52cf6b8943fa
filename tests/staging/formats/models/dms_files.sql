{{ dms_changes(
    source('bronze', 'dms'),
    feed='dms',
    columns={'id': 'bigint', 'last_name': 'string', 'city': 'string', 'salary': 'decimal(18,2)'},
    keys=['id'],
    changed_at='updated',
) }}
