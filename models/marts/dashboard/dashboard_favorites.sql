with

preferences as (
    select * from {{ ref('customer_preferences') }}
),

per_category as (
    select
        category,
        count(distinct customer_id) as customers,
        cast(sum(events) as bigint) as events,
        cast(sum(spend_usd) as decimal(18, 2)) as spend_usd
    from preferences
    group by category
),

final as (
    select
        category,
        customers,
        events,
        spend_usd,
        cast({{ scale_amount('100.00', 'spend_usd', 'sum(spend_usd) over ()') }} as decimal(5, 2))
            as share_pct
    from per_category
)

select * from final
