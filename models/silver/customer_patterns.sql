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
    _sequence,
    _changed_at
from {{ ref('customer_patterns_state') }}
where not _is_deleted
