select
    event_id,
    customer_id,
    page,
    action,
    device,
    region,
    occurred_at,
    _sequence,
    _changed_at
from {{ ref('clickstream_events_state') }}
where not _is_deleted
