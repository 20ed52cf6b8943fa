{{ cdc_current(
    changes=[ref('stg_debezium__accounts')],
    keys=['id'],
    columns=['owner', 'amount', 'big'],
) }}
