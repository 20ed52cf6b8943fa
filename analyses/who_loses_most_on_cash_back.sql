-- Which customers cost the bank most through cash back, in all months together, and would more
-- spend help?
-- Columns: customer_id, programme, net_usd, months_in_loss, average_monthly_spend_usd,
--     break_even_spend_usd, break_even_status
-- Run with: dbt show --select who_loses_most_on_cash_back
with

monthly as (
    select * from {{ ref('cash_back_monthly') }}
),

break_even as (
    select * from {{ ref('cash_back_break_even') }}
),

losses as (
    select
        customer_id,
        sum(net_usd) as net_usd,
        sum(case when is_loss then 1 else 0 end) as months_in_loss
    from monthly
    group by customer_id
),

final as (
    select
        losses.customer_id,
        break_even.programme,
        losses.net_usd,
        losses.months_in_loss,
        break_even.average_monthly_spend_usd,
        break_even.break_even_spend_usd,
        break_even.break_even_status
    from losses
    inner join break_even
        on losses.customer_id = break_even.customer_id
    where losses.net_usd < 0
)

select * from final
order by net_usd
