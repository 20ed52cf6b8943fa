{{ cdc_current(
    changes=[ref('stg_reference__purchase_trends')],
    keys=['customer_id'],
    columns=[
        'pattern_date',
        'number_of_concert_tickets',
        'number_of_comedy_shows',
        'number_of_sport_events',
        'number_of_online_txns',
        'home_mortgage_purchased_at',
        'created_at',
        'updated_at',
    ],
    subject={'customer': 'customer_id'},
) }}
