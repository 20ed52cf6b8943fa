with

losses as (
    select * from {{ ref('cash_back_losses') }}
    where is_current
),

-- A page has room for the greatest.
final as (
    select
        customer_id,
        programme,
        losing_from_month,
        months,
        spend_usd,
        loss_usd,
        reason,
        explanation
    from losses
    qualify row_number() over (order by loss_usd desc, customer_id asc) <= 20
)

select * from final
