-- Fails where a customer's preferences do not add up to the customer's card transactions, to the
-- cent; where they tell of other events than card and vendors do; or where parts are not the whole.
with

preferences as (
    select
        customer_id,
        sum(card_purchases) as card_purchases,
        sum(vendor_events) as vendor_events,
        sum(events) as events,
        sum(card_spend_usd) as card_spend_usd,
        sum(vendor_spend_usd) as vendor_spend_usd,
        sum(spend_usd) as spend_usd
    from {{ ref('customer_preferences') }}
    group by customer_id
),

card as (
    select
        customer_id,
        sum(case when transaction_type = 'purchase' then 1 else 0 end) as purchases,
        sum(case when transaction_type = 'purchase' then amount_usd else -amount_usd end)
            as spend_usd
    from {{ ref('card_transactions') }}
    group by customer_id
),

vendors as (
    select
        customer_id,
        count(*) as events,
        sum(spend_usd) as spend_usd
    from {{ ref('behavior_events') }}
    group by customer_id
),

differences as (
    select coalesce(preferences.customer_id, card.customer_id, vendors.customer_id) as customer_id
    from preferences
    full outer join card
        on preferences.customer_id = card.customer_id
    full outer join vendors
        on coalesce(preferences.customer_id, card.customer_id) = vendors.customer_id
    where
        coalesce(preferences.card_purchases, 0) <> coalesce(card.purchases, 0)
        or coalesce(preferences.card_spend_usd, 0) <> coalesce(card.spend_usd, 0)
        or coalesce(preferences.vendor_events, 0) > coalesce(vendors.events, 0)
        or coalesce(preferences.vendor_spend_usd, 0) > coalesce(vendors.spend_usd, 0)
        or preferences.events <> preferences.card_purchases + preferences.vendor_events
        or preferences.spend_usd <> preferences.card_spend_usd + preferences.vendor_spend_usd
)

select * from differences
