{{ cdc_known(
    changes=ref('stg_bank__card_transactions'),
    keys=['transaction_id'],
    columns=[
        'customer_id',
        'transaction_type',
        'merchant_category_code',
        'amount_usd',
        'transacted_at',
    ],
    subject='customer_id',
) }}
