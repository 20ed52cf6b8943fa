{{ airbyte_changes(
    source('partners', 'airbyte'),
    feed='airbyte',
    columns={'id': 'bigint', 'name': 'string', 'balance': 'decimal(18,2)'},
    keys=['id'],
) }}
