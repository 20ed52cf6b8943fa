-- depends_on: {{ ref('flagged_changes') }}

with

judgements as (
    select * from {{ run_state_relation('expectation_log') }}
),

final as (
    select
        run_number,
        invocation_id,
        feed,
        staging_model,
        rule,
        on_violation,
        is_applied,
        first_batch_id,
        last_batch_id,
        judged,
        judged - violated as passed,
        case when on_violation = 'warn' then violated else 0 end as warned,
        case when on_violation = 'drop' then violated else 0 end as dropped,
        case when on_violation = 'fail' then violated else 0 end as failed,
        recorded_at
    from judgements
)

select * from final
