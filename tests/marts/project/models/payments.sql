select
    payment_id,
    customer_id,
    kind,
    amount_usd,
    paid_at,
    cast(date_trunc('month', paid_at) as date) as month,
    amount_usd >= {{ var('large_payment_usd') }} as is_large
from {{ ref('payments_state') }}
where not _is_deleted
