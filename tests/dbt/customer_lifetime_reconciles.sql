-- What customers have contributed is what the cash-back months say, to the cent and for everybody.
with

contributed as (
    select
        customer_id,
        sum(net_usd) as net_usd
    from {{ ref('cash_back_monthly') }}
    group by customer_id
)

select
    coalesce(lifetime.customer_id, contributed.customer_id) as customer_id,
    lifetime.net_to_date_usd,
    contributed.net_usd
from {{ ref('customer_lifetime') }} as lifetime
full outer join contributed
    on lifetime.customer_id = contributed.customer_id
where lifetime.net_to_date_usd is distinct from coalesce(contributed.net_usd, 0)
