select
    transaction_id,
    account_id,
    customer_id,
    direction,
    purpose,
    amount_usd,
    currency,
    transacted_at,
    updated_at,
    _sequence,
    _changed_at
from {{ ref('checking_transactions_state') }}
where not _is_deleted
