{{ debezium_changes(
    source('bronze', 'sqlserver'),
    feed='sqlserver',
    columns={'id': 'bigint', 'first_name': 'string', 'email': 'string'},
    keys=['id'],
    connector='sqlserver',
) }}
