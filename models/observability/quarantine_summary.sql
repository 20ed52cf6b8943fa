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

applying as (
    select
        feed,
        'silver' as stage,
        model || ': ' || reason as reason,
        recorded_at as rejected_at
    from {{ run_state_relation('cdc_unusable') }}
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
    from applying
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
