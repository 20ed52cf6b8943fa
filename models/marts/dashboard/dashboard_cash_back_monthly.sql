with

monthly as (
    select * from {{ ref('cash_back_monthly') }}
),

final as (
    select
        month,
        cast(sum(interchange_usd) as decimal(18, 2)) as interchange_usd,
        cast(sum(cash_back_usd) as decimal(18, 2)) as cash_back_usd,
        cast(sum(monthly_fee_usd) as decimal(18, 2)) as monthly_fee_usd,
        cast(sum(servicing_cost_usd) as decimal(18, 2)) as servicing_cost_usd,
        cast(sum(net_usd) as decimal(18, 2)) as net_usd,
        -- Before a month is over, nobody has lost in it.
        cast(
            sum(case when is_over and is_loss then -net_usd when is_over then 0 end)
            as decimal(18, 2)
        ) as loss_usd,
        count(*) as customers,
        cast(
            sum(case when is_over and is_loss then 1 when is_over then 0 end) as bigint
        ) as customers_in_loss,
        is_over
    from monthly
    group by month, is_over
)

select * from final
