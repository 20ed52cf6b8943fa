{{ config(materialized='view') }}

with

preferences as (
    select * from {{ ref('customer_preferences') }}
),

customer_segments as (
    select * from {{ ref('customer_segments') }}
),

-- Everybody once under `all`, who has left too; whom the bank has now under the segment as well.
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
    union all
    select
        customer_segments.segment,
        preferences.customer_id,
        preferences.category,
        preferences.events,
        preferences.spend_usd,
        preferences.events_30d,
        preferences.events_90d
    from preferences
    inner join customer_segments
        on preferences.customer_id = customer_segments.customer_id
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
