{{ recomputed_by_customer(keys=['customer_id', 'category']) }}

with

card_transactions as (
    select * from {{ ref('card_transactions') }}
    where {{ of_changed_customers() }}
),

behavior_events as (
    select * from {{ ref('behavior_events') }}
    where {{ of_changed_customers() }}
),

patterns as (
    select * from {{ ref('customer_patterns') }}
    where {{ of_changed_customers() }}
),

merchant_categories as (
    select * from {{ ref('merchant_categories') }}
),

preference_categories as (
    select * from {{ ref('preference_categories') }}
),

-- A refund or reversal takes its amount back, but is no visit.
card_evidence as (
    select
        card_transactions.customer_id,
        coalesce(merchant_categories.preference_category, 'other') as category,
        case when card_transactions.transaction_type = 'purchase' then 1 else 0 end as events,
        case
            when card_transactions.transaction_type = 'purchase' then card_transactions.amount_usd
            else -card_transactions.amount_usd
        end as spend_usd,
        card_transactions.transacted_at as seen_at
    from card_transactions
    left join merchant_categories
        on card_transactions.merchant_category_code = merchant_categories.merchant_category_code
),

vendor_evidence as (
    select
        behavior_events.customer_id,
        coalesce(own.preference_category, rest.preference_category, 'other') as category,
        1 as events,
        behavior_events.spend_usd,
        behavior_events.occurred_at as seen_at
    from behavior_events
    left join preference_categories as own
        on
            behavior_events.vendor = own.vendor
            and behavior_events.vendor_category = own.vendor_category
    left join preference_categories as rest
        on behavior_events.vendor = rest.vendor and rest.vendor_category = '*'
),

-- The bank's own count of what a customer went to; it knows no prices.
pattern_evidence as (
    select
        customer_id,
        'concerts' as category,
        number_of_concert_tickets as events,
        updated_at as seen_at
    from patterns
    union all
    select
        customer_id,
        'comedy' as category,
        number_of_comedy_shows as events,
        updated_at as seen_at
    from patterns
    union all
    select
        customer_id,
        'sport' as category,
        number_of_sport_events as events,
        updated_at as seen_at
    from patterns
),

evidence as (
    select
        customer_id,
        category,
        events,
        spend_usd,
        seen_at
    from card_evidence
    union all
    select
        customer_id,
        category,
        events,
        spend_usd,
        seen_at
    from vendor_evidence
    union all
    select
        customer_id,
        category,
        events,
        cast(0 as decimal(18, 2)) as spend_usd,
        seen_at
    from pattern_evidence
    where events > 0
),

per_category as (
    select
        customer_id,
        category,
        cast(sum(events) as bigint) as events,
        cast(sum(spend_usd) as decimal(18, 2)) as spend_usd,
        max(seen_at) as last_seen_at
    from evidence
    group by customer_id, category
),

totals as (
    select
        customer_id,
        cast(sum(spend_usd) as decimal(18, 2)) as total_spend_usd
    from per_category
    group by customer_id
),

final as (
    select
        per_category.customer_id,
        per_category.category,
        per_category.events,
        per_category.spend_usd,
        {{ scale_amount('100.00', 'per_category.spend_usd', 'totals.total_spend_usd') }}
            as spend_share_pct,
        row_number() over (
            partition by per_category.customer_id
            order by
                per_category.spend_usd desc,
                per_category.events desc,
                per_category.category asc
        ) as preference_rank,
        per_category.last_seen_at
    from per_category
    inner join totals
        on per_category.customer_id = totals.customer_id
)

select * from final
