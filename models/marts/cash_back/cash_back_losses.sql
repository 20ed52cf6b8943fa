{{ recomputed_by_customer(keys=['customer_id', 'losing_from_month']) }}

with

-- A month that is not over is not judged: see `cash_back_break_even`.
losses as (
    select
        *,
        extract(year from month) * 12 + extract(month from month) as month_number
    from {{ ref('cash_back_monthly') }}
    where
        is_over
        and is_loss
        and {{ of_changed_customers() }}
),

-- In an unbroken row of months, month number and row number grow alike.
numbered as (
    select
        *,
        month_number - row_number() over (partition by customer_id order by month) as spell
    from losses
),

newest as (
    select
        customer_id,
        spell,
        programme
    from numbered
    qualify row_number() over (partition by customer_id, spell order by month desc) = 1
),

totals as (
    select
        customer_id,
        spell,
        min(month) as losing_from_month,
        max(month) as losing_to_month,
        cast(count(*) as int) as months,
        cast(sum(transactions) as int) as transactions,
        cast(sum(spend_usd) as decimal(18, 2)) as spend_usd,
        cast(sum(interchange_usd) as decimal(18, 2)) as interchange_usd,
        cast(sum(cash_back_usd) as decimal(18, 2)) as cash_back_usd,
        cast(sum(withheld_by_cap_usd) as decimal(18, 2)) as withheld_by_cap_usd,
        cast(sum(monthly_fee_usd) as decimal(18, 2)) as monthly_fee_usd,
        cast(sum(servicing_cost_usd) as decimal(18, 2)) as servicing_cost_usd,
        cast(-sum(net_usd) as decimal(18, 2)) as loss_usd
    from numbered
    group by customer_id, spell
),

reasoned as (
    select
        totals.*,
        newest.programme,
        case
            when totals.transactions = 0 then 'no_spend'
            when totals.spend_usd <= 0 then 'refunds'
            when totals.interchange_usd <= totals.cash_back_usd then 'never'
            else 'below_break_even'
        end as reason
    from totals
    inner join newest
        on totals.customer_id = newest.customer_id and totals.spell = newest.spell
),

final as (
    select
        customer_id,
        losing_from_month,
        losing_to_month,
        losing_to_month = cast({{ as_of_month() }} - interval 1 month as date) as is_current,
        months,
        programme,
        reason,
        spend_usd,
        interchange_usd,
        cash_back_usd,
        withheld_by_cap_usd,
        monthly_fee_usd,
        servicing_cost_usd,
        loss_usd,
        case reason
            when 'no_spend'
                then
                    'No card was used: the servicing cost of ' || servicing_cost_usd
                    || ' USD is not covered by fees of ' || monthly_fee_usd || ' USD.'
            when 'refunds'
                then
                    'No spend is left after refunds: interchange of ' || interchange_usd
                    || ' USD and fees of ' || monthly_fee_usd || ' USD do not cover cash back of '
                    || cash_back_usd || ' USD and the servicing cost of ' || servicing_cost_usd
                    || ' USD.'
            when 'never'
                then
                    'Cash back of ' || cash_back_usd || ' USD takes all of the interchange of '
                    || interchange_usd || ' USD: more spend of this kind would not help.'
            else
                'A margin of ' || cast(interchange_usd - cash_back_usd as decimal(18, 2))
                || ' USD does not cover the servicing cost of ' || servicing_cost_usd
                || ' USD less fees of ' || monthly_fee_usd || ' USD: more spend would help.'
        end as explanation
    from reasoned
)

select * from final
