select
    customer_id,
    cash_back_programme,
    status,
    created_at,
    _is_deleted as is_deleted,
    _sequence,
    -- A source that does not say when it changed something is taken at the time of landing.
    coalesce(_changed_at, known_from) as changed_at,
    known_from
from {{ ref('customers_known_state') }}
