{{ cdc_current(
    changes=[ref('stg_bank__card_transactions')],
    keys=['transaction_id'],
    columns=[
        'account_id',
        'customer_id',
        'transaction_type',
        'original_transaction_id',
        'merchant_name',
        'merchant_category_code',
        'amount_usd',
        'currency',
        'transacted_at',
        'updated_at',
    ],
    subject={'customer': 'customer_id', 'at': 'transacted_at'},
) }}
