{{ cdc_current(
    changes=[ref('stg_app__clickstream')],
    keys=['event_id'],
    columns=[
        'customer_id',
        'page',
        'action',
        'device',
        'region',
        'occurred_at',
    ],
    subject={'customer': 'customer_id'},
) }}
