{{ cdc_history(
    changes=[ref('stg_bank__customers')],
    keys=['customer_id'],
    columns=[
        'full_name',
        'email',
        'birth_date',
        'region',
        'cash_back_programme',
        'status',
        'created_at',
        'updated_at',
    ],
    subject={'customer': 'customer_id'},
) }}
