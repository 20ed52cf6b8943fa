select
    application_id,
    customer_id,
    product,
    amount_usd,
    term_months,
    status,
    submitted_at,
    updated_at,
    _sequence,
    _changed_at
from {{ ref('loan_applications_state') }}
where not _is_deleted
