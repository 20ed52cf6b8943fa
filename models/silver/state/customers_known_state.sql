{{ cdc_known(
    changes=ref('stg_bank__customers'),
    keys=['customer_id'],
    columns=[
        'cash_back_programme',
        'status',
        'created_at',
    ],
    subject='customer_id',
) }}
