{{ cdc_known(
    changes=ref('stg_bank__accounts'),
    keys=['account_id'],
    columns=[
        'customer_id',
        'account_type',
        'balance_usd',
    ],
    subject='customer_id',
) }}
