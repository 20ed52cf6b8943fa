with

monthly as (
    select * from {{ ref('cash_back_monthly') }}
),

totals as (
    select
        customer_id,
        cast(count(*) as int) as months,
        cast(sum(spend_usd) as decimal(18, 2)) as spend_usd,
        cast(sum(interchange_usd - cash_back_usd) as decimal(18, 2)) as margin_usd,
        cast(sum(servicing_cost_usd - monthly_fee_usd) as decimal(18, 2)) as fixed_cost_usd,
        cast(sum(net_usd) as decimal(18, 2)) as net_usd
    from monthly
    group by customer_id
),

newest as (
    select
        customer_id,
        programme
    from monthly
    qualify row_number() over (partition by customer_id order by month desc) = 1
),

-- Fixed cost per month / margin per dollar spent, where margin per dollar = margin / spend.
thresholds as (
    select
        totals.*,
        newest.programme,
        {{ scale_amount('totals.spend_usd', '1', 'totals.months') }} as average_monthly_spend_usd,
        {{ scale_amount('totals.net_usd', '1', 'totals.months') }} as average_monthly_net_usd,
        case
            when totals.margin_usd > 0 and totals.fixed_cost_usd <= 0
                then cast(0 as decimal(18, 2))
            when totals.margin_usd > 0
                then {{ scale_amount(
                    'totals.fixed_cost_usd', 'totals.spend_usd', 'totals.margin_usd * totals.months'
                ) }}
        end as break_even_spend_usd
    from totals
    inner join newest
        on totals.customer_id = newest.customer_id
),

final as (
    select
        customer_id,
        programme,
        months,
        average_monthly_spend_usd,
        average_monthly_net_usd,
        break_even_spend_usd,
        average_monthly_spend_usd - break_even_spend_usd as distance_usd,
        case
            when break_even_spend_usd is null then 'never'
            when net_usd >= 0 then 'above'
            else 'below'
        end as break_even_status
    from thresholds
)

select * from final
