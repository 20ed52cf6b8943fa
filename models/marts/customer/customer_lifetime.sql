{{ recomputed_by_customer(keys=['customer_id']) }}

with

customers as (
    select customer_id from {{ ref('customers') }}
    where {{ of_changed_customers() }}
),

changes as (
    select * from {{ ref('customer_patterns_history') }}
    where {{ of_changed_customers() }}
),

cash_back_monthly as (
    select * from {{ ref('cash_back_monthly') }}
    where {{ of_changed_customers() }}
),

lifetimes as (
    select
        customer_id,
        {{ days_between('min(created_at)', 'max(updated_at)') }} as lifetime_days,
        min(created_at) as first_created_at,
        max(updated_at) as last_updated_at
    from changes
    group by customer_id
),

contributions as (
    select
        customer_id,
        cast(count(*) as int) as months,
        cast(sum(net_usd) as decimal(18, 2)) as net_to_date_usd
    from cash_back_monthly
    group by customer_id
),

-- Whom the bank has, and whom it had: of these there are traces, but no person any more.
ever_known as (
    select customer_id from customers
    union distinct
    select customer_id from lifetimes
    union distinct
    select customer_id from contributions
),

final as (
    select
        ever_known.customer_id,
        lifetimes.lifetime_days,
        coalesce(contributions.months, 0) as months,
        coalesce(contributions.net_to_date_usd, cast(0 as decimal(18, 2))) as net_to_date_usd,
        {{ scale_amount('contributions.net_to_date_usd', '1', 'contributions.months') }}
            as net_per_month_usd,
        customers.customer_id is not null as is_current_customer,
        lifetimes.first_created_at,
        lifetimes.last_updated_at
    from ever_known
    left join customers
        on ever_known.customer_id = customers.customer_id
    left join lifetimes
        on ever_known.customer_id = lifetimes.customer_id
    left join contributions
        on ever_known.customer_id = contributions.customer_id
)

select * from final
