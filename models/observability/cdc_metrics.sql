with

runs as (
    select * from {{ run_state_relation('cdc_log') }}
),

final as (
    select
        model,
        run_number,
        invocation_id,
        status,
        changes_read,
        quarantined,
        duplicates,
        stale,
        upserted,
        deleted,
        truncates,
        cleared,
        recorded_at
    from runs
)

select * from final
