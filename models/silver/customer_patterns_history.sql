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
    valid_from,
    valid_to,
    valid_from_at,
    valid_to_at,
    valid_to is null as is_current
from {{ ref('customer_patterns_history_state') }}
where _is_version
