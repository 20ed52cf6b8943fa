-- From which monthly spend does each programme pay for itself, and for how many of its customers
-- who have spend?
-- Columns: programme, customers, break_even_customers, below_customers, never_customers,
--     break_even_share_pct, median_break_even_spend_usd, median_monthly_spend_usd
-- Run with: dbt show --select which_programme_breaks_even
with

break_even as (
    select * from {{ ref('cash_back_break_even') }}
    where is_newest_programme and break_even_status <> 'no_spend'
),

counted as (
    select
        programme,
        count(*) as customers,
        cast(sum(case when break_even_status = 'above' then 1 else 0 end) as bigint)
            as break_even_customers,
        cast(sum(case when break_even_status = 'below' then 1 else 0 end) as bigint)
            as below_customers,
        cast(sum(case when break_even_status = 'never' then 1 else 0 end) as bigint)
            as never_customers,
        cast(
            percentile_disc(0.5) within group (order by break_even_spend_usd) as decimal(18, 2)
        ) as median_break_even_spend_usd,
        cast(
            percentile_disc(0.5) within group (order by average_monthly_spend_usd)
            as decimal(18, 2)
        ) as median_monthly_spend_usd
    from break_even
    where programme is not null
    group by programme
),

final as (
    select
        programme,
        customers,
        break_even_customers,
        below_customers,
        never_customers,
        cast({{ scale_amount('100.00', 'break_even_customers', 'customers') }} as decimal(5, 2))
            as break_even_share_pct,
        median_break_even_spend_usd,
        median_monthly_spend_usd
    from counted
)

select * from final
order by programme
