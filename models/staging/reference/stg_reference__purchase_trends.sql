with

-- The source orders changes by the time it writes into the row, not by its log.
changes as (
    {{ debezium_changes(
        source('bronze', 'purchase_trends'),
        feed='purchase_trends',
        columns={
            'customer_id': 'bigint',
            'date': 'date',
            'number_of_concert_tickets': 'int',
            'number_of_comedy_shows': 'int',
            'number_of_sport_events': 'int',
            'number_of_online_txns': 'int',
            'home_mortgage_purchased_ts': 'timestamp',
            'datetime_created': 'timestamp',
            'datetime_updated': 'timestamp',
        },
        keys=['customer_id'],
        sequence='datetime_updated',
    ) }}
),

renamed as (
    select
        *,
        date as pattern_date,
        home_mortgage_purchased_ts as home_mortgage_purchased_at,
        datetime_created as created_at,
        datetime_updated as updated_at
    from changes
)

select
    customer_id,
    pattern_date,
    number_of_concert_tickets,
    number_of_comedy_shows,
    number_of_sport_events,
    number_of_online_txns,
    home_mortgage_purchased_at,
    created_at,
    updated_at,
    {{ change_columns() }}
from renamed
