with

break_even as (
    select * from {{ ref('cash_back_break_even') }}
    where is_newest_programme
),

final as (
    select
        programme,
        count(*) as customers,
        cast(sum(case when break_even_status = 'above' then 1 else 0 end) as bigint) as above,
        cast(sum(case when break_even_status = 'below' then 1 else 0 end) as bigint) as below,
        cast(sum(case when break_even_status = 'never' then 1 else 0 end) as bigint) as never,
        cast(
            sum(case when break_even_status = 'no_spend' then 1 else 0 end) as bigint
        ) as no_spend,
        -- Where a percentile is a floating-point number, it is one of these decimals still.
        cast(
            percentile_disc(0.5) within group (order by break_even_spend_usd) as decimal(18, 2)
        ) as median_break_even_spend_usd,
        cast(sum(average_monthly_net_usd) as decimal(18, 2)) as net_usd
    from break_even
    group by programme
)

select * from final
