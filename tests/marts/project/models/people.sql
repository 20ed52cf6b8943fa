select
    customer_id,
    region
from {{ ref('people_state') }}
where not _is_deleted
