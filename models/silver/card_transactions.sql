select
    transaction_id,
    account_id,
    customer_id,
    transaction_type,
    original_transaction_id,
    merchant_name,
    merchant_category_code,
    amount_usd,
    currency,
    transacted_at,
    updated_at,
    _sequence,
    _changed_at
from {{ ref('card_transactions_state') }}
where not _is_deleted
