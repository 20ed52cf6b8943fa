select
    account_id,
    customer_id,
    account_type,
    balance_usd,
    _is_deleted as is_deleted,
    _sequence,
    -- A source that does not say when it changed something is taken at the time of landing.
    coalesce(_changed_at, known_from) as changed_at,
    known_from
from {{ ref('accounts_known_state') }}
-- A delete that arrives before anything else of its account is nobody's as yet.
where customer_id is not null
