{{ cdc_current(
    changes=ref('stg_people'),
    keys=['customer_id'],
    columns=['region'],
    subject={'customer': 'customer_id'},
) }}
