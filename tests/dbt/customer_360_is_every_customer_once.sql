-- Fails with the customers that are not in the mart exactly once, and with rows of nobody.
with

counted as (
    select
        customer_id,
        count(*) as in_mart
    from {{ ref('customer_360') }}
    group by customer_id
)

select
    coalesce(customers.customer_id, counted.customer_id) as customer_id,
    counted.in_mart
from {{ ref('customers') }} as customers
full outer join counted
    on customers.customer_id = counted.customer_id
where customers.customer_id is null or counted.in_mart is distinct from 1
