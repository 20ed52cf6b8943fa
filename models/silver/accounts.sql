select
    account_id,
    customer_id,
    account_type,
    currency,
    balance_usd,
    opened_at,
    updated_at,
    _sequence,
    _changed_at
from {{ ref('accounts_state') }}
where not _is_deleted
