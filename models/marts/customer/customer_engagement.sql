with

patterns as (
    select * from {{ ref('customer_patterns') }}
),

final as (
    select
        customer_id,
        number_of_online_txns,
        case
            when number_of_online_txns > 10 then 'HIGH'
            when number_of_online_txns > 2 then 'MEDIUM'
            else 'LOW'
        end as engagement_level,
        updated_at as observed_at
    from patterns
)

select * from final
