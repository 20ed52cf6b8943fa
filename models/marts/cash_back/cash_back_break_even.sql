{{ recomputed_by_customer(keys=['customer_id', 'programme']) }}

-- A month that is not over has its fee and servicing cost, but not its spend yet: it would make
-- every customer look like a loser. It waits until it is over.
with

months as (
    select *
    from {{ ref('cash_back_monthly') }}
    where
        is_over
        and programme is not null
        and {{ of_changed_customers() }}
),

totals as (
    select
        customer_id,
        programme,
        cast(count(*) as int) as months,
        min(month) as first_month,
        max(month) as last_month,
        cast(sum(spend_usd) as decimal(18, 2)) as spend_usd,
        cast(sum(interchange_usd) as decimal(18, 2)) as interchange_usd,
        cast(sum(cash_back_usd) as decimal(18, 2)) as cash_back_usd,
        cast(sum(interchange_usd - cash_back_usd) as decimal(18, 2)) as margin_usd,
        cast(sum(servicing_cost_usd - monthly_fee_usd) as decimal(18, 2)) as fixed_cost_usd,
        cast(sum(net_usd) as decimal(18, 2)) as net_usd
    from months
    group by customer_id, programme
),

-- Fixed cost per month / margin per dollar spent, where margin per dollar = margin / spend.
thresholds as (
    select
        *,
        last_month = max(last_month) over (partition by customer_id) as is_newest_programme,
        {{ scale_amount('spend_usd', '1', 'months') }} as average_monthly_spend_usd,
        {{ scale_amount('fixed_cost_usd', '1', 'months') }} as average_monthly_fixed_cost_usd,
        {{ scale_amount('net_usd', '1', 'months') }} as average_monthly_net_usd,
        case
            when spend_usd > 0 then {{ scale_amount('interchange_usd', '10000', 'spend_usd') }}
        end as interchange_yield_bps,
        case
            when spend_usd > 0 then {{ scale_amount('cash_back_usd', '10000', 'spend_usd') }}
        end as effective_cash_back_rate_bps,
        case
            when margin_usd <= 0 or spend_usd <= 0 then cast(null as decimal(18, 2))
            when fixed_cost_usd <= 0 then cast(0 as decimal(18, 2))
            else {{ scale_amount('fixed_cost_usd', 'spend_usd', 'margin_usd * months') }}
        end as break_even_spend_usd
    from totals
),

final as (
    select
        customer_id,
        programme,
        is_newest_programme,
        months,
        first_month,
        last_month,
        interchange_yield_bps,
        effective_cash_back_rate_bps,
        average_monthly_fixed_cost_usd,
        average_monthly_spend_usd,
        average_monthly_net_usd,
        break_even_spend_usd,
        cast(average_monthly_spend_usd - break_even_spend_usd as decimal(18, 2)) as distance_usd,
        case
            when spend_usd <= 0 then 'no_spend'
            when break_even_spend_usd is null then 'never'
            when net_usd >= 0 then 'above'
            else 'below'
        end as break_even_status
    from thresholds
)

select * from final
