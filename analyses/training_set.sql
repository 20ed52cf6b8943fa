-- A training set for a model of churn: every customer who had bought something in the 90 days
-- before the first of a month, with the features of that day, and whether no purchase followed for
-- 28 days.
-- Columns: customer_id, labelled_at, is_churned, feature_at, tenure_days, cash_back_programme,
--     balance_usd, number_of_online_txns, engagement_level, number_of_events, purchases_30d,
--     purchases_90d, spend_30d_usd, spend_90d_usd, average_purchase_90d_usd, categories_90d,
--     travel_share_90d_pct, refund_share_90d_pct, days_since_last_purchase
-- Run with: dbt show --select training_set
-- Export with: dbt run-operation export_parquet
--     --args '{query: training_set, path: training_set.parquet}'
-- A lakehouse that was filled at once knew nothing then: add --vars '{as_known: now}'.
with

purchases as (
    select
        customer_id,
        transacted_at
    from {{ ref('card_transactions') }}
    where transaction_type = 'purchase'
),

observed as (
    select max(transacted_at) as observed_until
    from purchases
),

moments as (
    select cast(dates.date_day as timestamp) as labelled_at
    from {{ ref('dates') }} as dates
    cross join observed
    where
        dates.date_day = dates.month_start_date
        and cast(dates.date_day as timestamp) + interval 28 day <= observed.observed_until
),

labels as (
    select
        purchases.customer_id,
        moments.labelled_at,
        max(
            case when purchases.transacted_at >= moments.labelled_at then 1 else 0 end
        ) = 0 as is_churned
    from purchases
    inner join moments
        on
            purchases.transacted_at >= moments.labelled_at - interval 90 day
            and purchases.transacted_at < moments.labelled_at + interval 28 day
    group by purchases.customer_id, moments.labelled_at
    having min(purchases.transacted_at) < moments.labelled_at
),

final as (
    {{ point_in_time('labels', as_known=var('as_known', 'then')) }}
)

select * from final
order by customer_id, labelled_at
