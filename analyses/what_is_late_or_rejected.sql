-- Which feeds have late or rejected records, how many, and why were they rejected?
-- Columns: feed, what, reason, records, last_at
-- Run with: dbt show --select what_is_late_or_rejected
with

freshness as (
    select * from {{ ref('feed_freshness') }}
),

quarantine as (
    select * from {{ ref('quarantine_summary') }}
),

final as (
    select
        feed,
        'late' as what,
        cast(null as string) as reason,
        late_records as records,
        last_ingested_at as last_at
    from freshness
    where late_records > 0
    union all
    select
        feed,
        'rejected in ' || stage as what,
        reason,
        records,
        last_at
    from quarantine
)

select * from final
order by records desc, feed asc, what asc, reason asc
