-- Over another mart, and by the day.
{{ recomputed_by_customer(keys=['customer_id']) }}

with

months as (
    select * from {{ ref('spend_by_month') }}
    where {{ of_changed_customers() }}
)

select
    customer_id,
    cast(count(*) as bigint) as months,
    cast(sum(spend_usd) as decimal(18, 2)) as spend_usd,
    {{ days_between('cast(max(month) as timestamp)', 'cast(' ~ as_of_date() ~ ' as timestamp)') }}
        as days_since_last_month
from months
group by customer_id
