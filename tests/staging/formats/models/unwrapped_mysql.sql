{{ debezium_unwrapped_changes(
    source('bronze', 'unwrapped_mysql'),
    feed='unwrapped_mysql',
    columns={'id': 'bigint', 'first_name': 'string'},
    keys=['id'],
    connector='mysql',
    ignore_tombstones=true,
) }}
