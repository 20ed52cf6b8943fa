select
    feed,
    stage,
    reason,
    records,
    last_at
from {{ ref('quarantine_summary') }}
