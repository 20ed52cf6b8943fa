select
    vendor,
    event_id,
    customer_id,
    vendor_category,
    quantity,
    spend_usd,
    occurred_at,
    _sequence,
    _changed_at
from {{ ref('behavior_events_state') }}
where not _is_deleted
