{{ cdc_known(
    changes=ref('stg_reference__purchase_trends'),
    keys=['customer_id'],
    columns=[
        'number_of_concert_tickets',
        'number_of_comedy_shows',
        'number_of_sport_events',
        'number_of_online_txns',
    ],
    subject='customer_id',
) }}
