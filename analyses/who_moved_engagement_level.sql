-- Which customers moved from one engagement level to another, newest first?
-- Columns: customer_id, level_before, level_after, number_of_online_txns, moved_at
-- Run with: dbt show --select who_moved_engagement_level
with

patterns as (
    select * from {{ ref('customer_patterns_history') }}
),

levels as (
    select
        customer_id,
        number_of_online_txns,
        {{ engagement_level('number_of_online_txns') }} as level_after,
        valid_from_at as moved_at,
        valid_from
    from patterns
),

compared as (
    select
        *,
        lag(level_after) over (partition by customer_id order by valid_from) as level_before
    from levels
),

final as (
    select
        customer_id,
        level_before,
        level_after,
        number_of_online_txns,
        moved_at
    from compared
    where level_before <> level_after
)

select * from final
order by moved_at desc, customer_id asc
