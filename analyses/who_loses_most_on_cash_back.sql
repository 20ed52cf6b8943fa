-- Which customers cost the bank most through cash back, since when, why, and would more spend help?
-- Columns: customer_id, programme, losing_from_month, months, loss_usd, explanation,
--     average_monthly_spend_usd, break_even_spend_usd, break_even_status
-- Run with: dbt show --select who_loses_most_on_cash_back
with

losses as (
    select * from {{ ref('cash_back_losses') }}
    where is_current
),

break_even as (
    select * from {{ ref('cash_back_break_even') }}
    where is_newest_programme
),

final as (
    select
        losses.customer_id,
        losses.programme,
        losses.losing_from_month,
        losses.months,
        losses.loss_usd,
        losses.explanation,
        break_even.average_monthly_spend_usd,
        break_even.break_even_spend_usd,
        break_even.break_even_status
    from losses
    left join break_even
        on losses.customer_id = break_even.customer_id
)

select * from final
order by loss_usd desc
