{{ fivetran_changes(
    source('partners', 'fivetran_soft_delete'),
    feed='fivetran_soft_delete',
    columns={'id': 'bigint', 'name': 'string', 'balance': 'decimal(18,2)'},
    keys=['id'],
) }}
