{{ cdc_current(
    changes=[
        ref('stg_vendors__tickets'),
        ref('stg_vendors__travel'),
        ref('stg_vendors__dining'),
        ref('stg_vendors__retail'),
    ],
    keys=['vendor', 'event_id'],
    columns=[
        'customer_id',
        'vendor_category',
        'quantity',
        'spend_usd',
        'occurred_at',
    ],
    subject={'customer': 'customer_id'},
) }}
