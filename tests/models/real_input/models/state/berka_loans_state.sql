{{ cdc_current(
    changes=[ref('stg_berka__loans')],
    keys=['loan_id'],
    columns=['account_id', 'amount', 'payments', 'duration', 'status'],
) }}
