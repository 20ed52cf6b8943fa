{{ operation_changes(
    source('bronze', 'operations'),
    feed='operations',
    columns={'branch': 'string', 'id': 'bigint', 'amount': 'decimal(18,2)'},
    keys=['branch', 'id'],
    operation='change',
    operations={
        'insert': ['I', 'insert'],
        'update': ['U'],
        'delete': ['D'],
        'truncate': ['T'],
    },
    sequence={'version': 'bigint'},
    changed_at='changed',
    null_text='',
    truncates=true,
) }}
