-- Fails with the purchases whose refunds and reversals took back more interchange or cash back than
-- the purchase was granted, or not all of it though the whole purchase was refunded.
with

taken_back as (
    select
        customer_id,
        original_transaction_id,
        -sum(spend_usd) as refunded_usd,
        -sum(interchange_usd) as interchange_usd,
        -sum(cash_back_usd) as cash_back_usd
    from {{ ref('cash_back_refunds') }}
    where is_original_known
    group by customer_id, original_transaction_id
),

off_purchase as (
    select
        purchases.transaction_id,
        purchases.interchange_usd,
        purchases.cash_back_usd,
        taken_back.interchange_usd as interchange_taken_back_usd,
        taken_back.cash_back_usd as cash_back_taken_back_usd
    from taken_back
    inner join {{ ref('cash_back_purchases') }} as purchases
        on
            taken_back.original_transaction_id = purchases.transaction_id
            and taken_back.customer_id = purchases.customer_id
    where
        taken_back.interchange_usd > purchases.interchange_usd
        or taken_back.cash_back_usd > purchases.cash_back_usd
        or (
            taken_back.refunded_usd >= purchases.amount_usd
            and (
                taken_back.interchange_usd <> purchases.interchange_usd
                or taken_back.cash_back_usd <> purchases.cash_back_usd
            )
        )
)

select * from off_purchase
