{{ config(materialized='view') }}

with

preferences as (
    select * from {{ ref('customer_preferences') }}
),

-- Everybody once under `all`, which is what a product for all customers is judged by.
segmented as (
    select
        'all' as segment,
        customer_id,
        category,
        events,
        spend_usd,
        events_30d,
        events_90d
    from preferences
),

segments as (
    select
        segment,
        count(distinct customer_id) as segment_customers
    from segmented
    group by segment
),

per_category as (
    select
        segment,
        category,
        count(*) as customers,
        cast(sum(events) as bigint) as events,
        cast(sum(spend_usd) as decimal(18, 2)) as spend_usd,
        cast(sum(events_30d) as bigint) as events_30d,
        cast(sum(events_90d) as bigint) as events_90d
    from segmented
    group by segment, category
),

totals as (
    select
        per_category.*,
        segments.segment_customers,
        cast(
            sum(per_category.spend_usd) over (partition by per_category.segment)
            as decimal(18, 2)
        ) as segment_spend_usd
    from per_category
    inner join segments
        on per_category.segment = segments.segment
),

final as (
    select
        segment,
        category,
        cast(
            row_number() over (
                partition by segment
                order by spend_usd desc, customers desc, category asc
            ) as int
        ) as favorite_rank,
        customers,
        {{ scale_amount('100.00', 'customers', 'segment_customers') }} as customers_pct,
        events,
        spend_usd,
        {{ scale_amount('100.00', 'spend_usd', 'segment_spend_usd') }} as spend_share_pct,
        events_30d,
        events_90d,
        {{ trend_of('events_30d', 'events_90d') }} as trend
    from totals
)

select * from final
