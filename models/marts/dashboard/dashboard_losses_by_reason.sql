with

losses as (
    select * from {{ ref('cash_back_losses') }}
    where is_current
),

final as (
    select
        reason,
        count(*) as customers,
        min(losing_from_month) as losing_from_month,
        cast(sum(loss_usd) as decimal(18, 2)) as loss_usd
    from losses
    group by reason
)

select * from final
