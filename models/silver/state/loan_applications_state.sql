{{ cdc_current(
    changes=[ref('stg_bank__loan_applications')],
    keys=['application_id'],
    columns=[
        'customer_id',
        'product',
        'amount_usd',
        'term_months',
        'status',
        'submitted_at',
        'updated_at',
    ],
    subject={'customer': 'customer_id'},
) }}
