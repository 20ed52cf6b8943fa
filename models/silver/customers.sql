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
    _sequence,
    _changed_at
from {{ ref('customers_state') }}
where not _is_deleted
