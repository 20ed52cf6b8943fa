{{ cdc_current(
    changes=[ref('stg_bank__checking_transactions')],
    keys=['transaction_id'],
    columns=[
        'account_id',
        'customer_id',
        'direction',
        'purpose',
        'amount_usd',
        'currency',
        'transacted_at',
        'updated_at',
    ],
    subject={'customer': 'customer_id', 'at': 'transacted_at'},
) }}
