{{ cdc_current(
    changes=[ref('stg_berka__orders')],
    keys=['order_id'],
    columns=['account_id', 'amount', 'purpose'],
) }}
