{{ dms_changes(
    source('partners', 'dms'),
    feed='dms_table',
    columns={'id': 'bigint', 'city': 'string'},
    keys=['id'],
    written_at='loaded_at',
) }}
