{{ cdc_current(
    changes=[ref('stg_bank__accounts')],
    keys=['account_id'],
    columns=[
        'customer_id',
        'account_type',
        'currency',
        'balance_usd',
        'opened_at',
        'updated_at',
    ],
    subject={'customer': 'customer_id'},
) }}
