{{ cdc_current(
    changes=ref('stg_payments'),
    keys=['payment_id'],
    columns=['customer_id', 'kind', 'amount_usd', 'paid_at'],
    subject={'customer': 'customer_id', 'at': 'paid_at'},
) }}
