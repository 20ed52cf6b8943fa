{{ recomputed_by_customer(keys=['customer_id']) }}

{%- set today = as_of_date() %}

with

customers as (
    select customer_id from {{ ref('customers') }}
    where {{ of_changed_customers() }}
),

card_transactions as (
    select * from {{ ref('card_transactions') }}
    where
        {{ of_changed_customers() }}
        and cast(transacted_at as date) <= {{ today }}
),

score_bounds as (
    select
        measure,
        score,
        lower_bound,
        lead(lower_bound) over (partition by measure order by lower_bound) as upper_bound
    from {{ ref('segment_score_bounds') }}
),

rules as (
    select * from {{ ref('segment_rules') }}
),

taken_back as (
    select
        customer_id,
        original_transaction_id,
        cast(sum(amount_usd) as decimal(18, 2)) as amount_usd
    from card_transactions
    where transaction_type <> 'purchase'
    group by customer_id, original_transaction_id
),

-- A purchase counts with what refunds and reversals have left of it, on the day of the purchase.
purchases as (
    select
        card_transactions.customer_id,
        card_transactions.transacted_at,
        cast(card_transactions.transacted_at as date)
        > {{ today }} - interval {{ var('segment_window_days') }} day as is_in_window,
        cast(
            card_transactions.amount_usd - coalesce(taken_back.amount_usd, 0) as decimal(18, 2)
        ) as kept_usd
    from card_transactions
    left join taken_back
        on
            card_transactions.customer_id = taken_back.customer_id
            and card_transactions.transaction_id = taken_back.original_transaction_id
    where card_transactions.transaction_type = 'purchase'
),

measures as (
    select
        customers.customer_id,
        {{ days_between('cast(max(purchases.transacted_at) as date)', today) }} as recency_days,
        cast(sum(case when purchases.is_in_window then 1 else 0 end) as int) as purchases,
        cast(
            sum(case when purchases.is_in_window then purchases.kept_usd else 0 end)
            as decimal(18, 2)
        ) as spend_usd,
        max(purchases.transacted_at) as last_purchase_at
    from customers
    left join purchases
        on customers.customer_id = purchases.customer_id and purchases.kept_usd > 0
    group by customers.customer_id
),

-- Whoever never bought anything did so endlessly long ago: the bound that has no end.
scored as (
    select
        measures.*,
        cast(recency.score as int) as recency_score,
        cast(frequency.score as int) as purchases_score,
        cast(monetary.score as int) as spend_score
    from measures
    left join score_bounds as recency
        on
            recency.measure = 'recency_days'
            and coalesce(measures.recency_days >= recency.lower_bound, recency.upper_bound is null)
            and coalesce(measures.recency_days < recency.upper_bound, recency.upper_bound is null)
    left join score_bounds as frequency
        on
            frequency.measure = 'purchases'
            and measures.purchases >= frequency.lower_bound
            and coalesce(measures.purchases < frequency.upper_bound, true)
    left join score_bounds as monetary
        on
            monetary.measure = 'spend_usd'
            and measures.spend_usd >= monetary.lower_bound
            and coalesce(measures.spend_usd < monetary.upper_bound, true)
),

final as (
    select
        scored.customer_id,
        rules.segment,
        scored.recency_score,
        scored.purchases_score,
        scored.spend_score,
        scored.recency_days,
        scored.purchases,
        scored.spend_usd,
        scored.last_purchase_at
    from scored
    left join rules
        on
            scored.recency_score between rules.min_recency_score and rules.max_recency_score
            and scored.purchases_score
            between rules.min_purchases_score and rules.max_purchases_score
            and scored.spend_score between rules.min_spend_score and rules.max_spend_score
)

select * from final
