{{ recomputed_by_customer(keys=['customer_id', 'kind']) }}

with

payments as (
    select * from {{ ref('payments') }}
    where {{ of_changed_customers() }}
)

select
    payments.customer_id,
    payments.kind,
    cast(sum(payments.amount_usd * weights.weight) as decimal(18, 2)) as weighted_usd,
    cast(sum(case when payments.is_large then 1 else 0 end) as bigint) as large_payments
from payments
left join {{ ref('weights') }} as weights
    on payments.kind = weights.kind
group by payments.customer_id, payments.kind
