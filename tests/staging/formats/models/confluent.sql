{{ confluent_delta_changes(
    source('partners', 'confluent'),
    feed='confluent',
    columns={'id': 'bigint', 'name': 'string', 'big': 'string'},
    keys=['id'],
    large=['big'],
) }}
