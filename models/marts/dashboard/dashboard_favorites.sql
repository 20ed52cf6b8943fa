select
    category,
    customers,
    events,
    spend_usd,
    cast(spend_share_pct as decimal(5, 2)) as share_pct
from {{ ref('customer_favorites') }}
where segment = 'all' and events > 0
