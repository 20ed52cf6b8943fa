with

flagged as (
    select * from {{ ref('flagged_changes') }}
),

final as (
    select
        feed,
        source,
        source_partition,
        source_position,
        batch_id,
        reason,
        broken_rules,
        value,
        ingested_at
    from flagged
    where reason is not null
)

select * from final
