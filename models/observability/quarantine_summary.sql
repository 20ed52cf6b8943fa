with

landing as (
    select
        feed,
        'ingestion' as stage,
        reason,
        cast(ingested_at as timestamp) as rejected_at
    from {{ source('bronze', 'quarantine') }}
),

staging as (
    select
        feed,
        'staging' as stage,
        reason,
        ingested_at as rejected_at
    from {{ ref('rejected_changes') }}
),

rejected as (
    select
        feed,
        stage,
        reason,
        rejected_at
    from landing
    union all
    select
        feed,
        stage,
        reason,
        rejected_at
    from staging
),

final as (
    select
        feed,
        stage,
        reason,
        count(*) as records,
        max(rejected_at) as last_at
    from rejected
    group by feed, stage, reason
)

select * from final
