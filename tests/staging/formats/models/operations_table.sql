{{ operation_changes(
    source('partners', 'operations'),
    feed='operations_table',
    columns={'branch': 'string', 'id': 'bigint', 'amount': 'decimal(18,2)'},
    keys=['branch', 'id'],
    operation='change',
    operations={
        'insert': ['I', 'insert'],
        'update': ['U'],
        'delete': ['D'],
        'truncate': ['T'],
    },
    sequence={'changed': 'timestamp', 'version': 'bigint'},
    changed_at='changed',
    written_at='written',
) }}
