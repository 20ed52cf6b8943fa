{{ fivetran_changes(
    source('partners', 'fivetran_history'),
    feed='fivetran_history',
    columns={'id': 'bigint', 'name': 'string'},
    keys=['id'],
    mode='history',
) }}
