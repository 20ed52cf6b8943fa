select
    customer_id,
    number_of_concert_tickets,
    number_of_comedy_shows,
    number_of_sport_events,
    number_of_online_txns,
    _is_deleted as is_deleted,
    _sequence,
    -- A source that does not say when it changed something is taken at the time of landing.
    coalesce(_changed_at, known_from) as changed_at,
    known_from
from {{ ref('customer_patterns_known_state') }}
