with

engagement as (
    select * from {{ ref('customer_engagement') }}
),

levels as (
    select
        engagement_level,
        count(*) as customers
    from engagement
    group by engagement_level
),

final as (
    select
        engagement_level,
        customers,
        cast({{ scale_amount('100.00', 'customers', 'sum(customers) over ()') }} as decimal(5, 2))
            as share_pct
    from levels
)

select * from final
