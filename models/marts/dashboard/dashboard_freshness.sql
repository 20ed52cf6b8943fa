select
    feed,
    records,
    last_batch_id,
    last_ingested_at,
    last_source_timestamp,
    lateness_p95_seconds
from {{ ref('feed_freshness') }}
