-- What moved in the buying patterns of customers in the 30 days before the newest change?
-- Columns: customer_id, sentence, category, value_before, value_after, moved_by, changed_at
-- Run with: dbt show --select what_changed_in_preferences
with

changes as (
    select * from {{ ref('preference_changes') }}
),

newest as (
    select max(changed_at) as changed_at
    from changes
),

final as (
    select
        changes.customer_id,
        changes.sentence,
        changes.category,
        changes.value_before,
        changes.value_after,
        changes.moved_by,
        changes.changed_at
    from changes
    inner join newest
        on changes.changed_at > newest.changed_at - interval 30 day
)

select * from final
order by changed_at desc, customer_id asc, category asc
