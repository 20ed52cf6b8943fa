select
    customer_id,
    full_name,
    email,
    birth_date,
    region,
    cash_back_programme,
    status,
    created_at,
    updated_at,
    valid_from,
    valid_to,
    valid_from_at,
    valid_to_at,
    valid_to is null as is_current
from {{ ref('customers_history_state') }}
where _is_version
