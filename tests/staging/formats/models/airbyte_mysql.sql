{{ airbyte_changes(
    source('partners', 'airbyte_mysql'),
    feed='airbyte_mysql',
    columns={'id': 'bigint', 'name': 'string'},
    keys=['id'],
    sequence={'_ab_cdc_log_file': 'string', '_ab_cdc_log_pos': 'bigint'},
    meta=none,
) }}
