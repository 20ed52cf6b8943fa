-- Which customers may be leaving: on the newest first of a month, without a purchase for a week and
-- for more than twice as long as usual with them in the 90 days before? Who spent most comes first.
-- Columns: customer_id, feature_at, purchases_90d, spend_90d_usd, days_since_last_purchase,
--     engagement_level, balance_usd, tenure_days
-- Run with: dbt show --select who_could_churn
with

features as (
    select * from {{ ref('customer_features') }}
    where known_to is null
),

newest as (
    select max(feature_at) as feature_at
    from features
),

final as (
    select
        features.customer_id,
        features.feature_at,
        features.purchases_90d,
        features.spend_90d_usd,
        features.days_since_last_purchase,
        features.engagement_level,
        features.balance_usd,
        features.tenure_days
    from features
    inner join newest
        on features.feature_at = newest.feature_at
    -- 90 days over the purchases in them are the usual distance; who bought less has no habit.
    where
        features.purchases_90d >= 3
        and features.days_since_last_purchase >= 7
        and features.days_since_last_purchase * features.purchases_90d > 2 * 90
)

select * from final
order by spend_90d_usd desc, customer_id asc
