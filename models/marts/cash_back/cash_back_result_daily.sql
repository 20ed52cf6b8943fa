{{ config(materialized='view') }}

with

daily as (
    select * from {{ ref('cash_back_daily') }}
),

days as (
    select
        date_day,
        cast(count(*) as int) as customers,
        cast(sum(spend_usd) as decimal(18, 2)) as spend_usd,
        cast(sum(interchange_usd) as decimal(18, 2)) as interchange_usd,
        cast(sum(cash_back_usd) as decimal(18, 2)) as cash_back_usd,
        cast(sum(monthly_fee_usd) as decimal(18, 2)) as monthly_fee_usd,
        cast(sum(servicing_cost_usd) as decimal(18, 2)) as servicing_cost_usd,
        cast(sum(net_usd) as decimal(18, 2)) as net_usd
    from daily
    group by date_day
),

final as (
    select
        date_day,
        customers,
        spend_usd,
        interchange_usd,
        cash_back_usd,
        monthly_fee_usd,
        servicing_cost_usd,
        net_usd,
        cast(
            sum(net_usd) over (
                order by date_day rows between unbounded preceding and current row
            ) as decimal(18, 2)
        ) as net_to_date_usd
    from days
)

select * from final
