{{ debezium_changes(
    source('bronze', 'debezium_accounts'),
    feed='debezium_accounts',
    columns={'id': 'bigint', 'owner': 'string', 'amount': 'decimal(18,2)', 'big': 'string'},
    keys=['id'],
) }}
