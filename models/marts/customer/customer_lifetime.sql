with

changes as (
    select * from {{ ref('customer_patterns_history') }}
),

final as (
    select
        customer_id,
        {{ days_between('min(created_at)', 'max(updated_at)') }} as lifetime_days,
        max(case when is_current then 1 else 0 end) = 1 as is_current_customer,
        min(created_at) as first_created_at,
        max(updated_at) as last_updated_at
    from changes
    group by customer_id
)

select * from final
