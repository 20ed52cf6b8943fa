{{ debezium_changes(
    source('bronze', 'mysql'),
    feed='mysql',
    columns={'id': 'bigint', 'first_name': 'string', 'email': 'string'},
    keys=['id'],
    connector='mysql',
    truncates=true,
) }}
