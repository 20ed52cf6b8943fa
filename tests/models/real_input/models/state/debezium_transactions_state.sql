{{ cdc_current(
    changes=[ref('stg_debezium__transactions')],
    keys=['id'],
    columns=['customer_id', 'amount', 'ccy', 'at'],
) }}
