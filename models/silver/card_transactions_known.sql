select
    transaction_id,
    customer_id,
    transaction_type,
    merchant_category_code,
    amount_usd,
    transacted_at,
    known_from,
    known_to
from {{ ref('card_transactions_known_state') }}
where not _is_deleted and coalesce(known_to > known_from, true)
