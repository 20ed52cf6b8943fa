{{ cdc_history(
    changes=[ref('stg_debezium__customers')],
    keys=['id'],
    columns=['name', 'email', 'balance', 'tier', 'active', 'birth', 'created_at', 'updated_at', 'big', 'meta', 'segment'],
    partial=['big'],
) }}
