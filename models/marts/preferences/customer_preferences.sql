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

clicks as (
    select * from {{ ref('clickstream_events') }}
    where {{ of_changed_customers() }}
),

patterns as (
    select * from {{ ref('customer_patterns') }}
    where {{ of_changed_customers() }}
),

pattern_changes as (
    select * from {{ ref('preference_changes') }}
    where {{ of_changed_customers() }}
),

merchant_categories as (
    select * from {{ ref('merchant_categories') }}
),

preference_categories as (
    select * from {{ ref('preference_categories') }}
),

page_categories as (
    select * from {{ ref('page_categories') }}
),

card_entries as (
    select
        card_transactions.customer_id,
        card_transactions.transaction_id,
        card_transactions.transaction_type,
        card_transactions.original_transaction_id,
        card_transactions.amount_usd,
        card_transactions.transacted_at,
        coalesce(merchant_categories.category, 'other') as purchase_category,
        coalesce(merchant_categories.preference_category, 'other') as category
    from card_transactions
    left join merchant_categories
        on card_transactions.merchant_category_code = merchant_categories.merchant_category_code
),

vendor_entries as (
    select
        behavior_events.customer_id,
        behavior_events.vendor,
        behavior_events.event_id,
        behavior_events.spend_usd,
        behavior_events.occurred_at,
        coalesce(own.purchase_category, rest.purchase_category, 'other') as purchase_category,
        coalesce(own.preference_category, rest.preference_category, 'other') as category
    from behavior_events
    left join preference_categories as own
        on
            behavior_events.vendor = own.vendor
            and behavior_events.vendor_category = own.vendor_category
    left join preference_categories as rest
        on behavior_events.vendor = rest.vendor and rest.vendor_category = '*'
),

vendor_events as (
    select
        *,
        cast(occurred_at as date) as purchase_date,
        row_number() over (
            partition by customer_id, purchase_category, spend_usd, cast(occurred_at as date)
            order by occurred_at, vendor, event_id
        ) as number_of_its_kind
    from vendor_entries
),

of_vendors as (
    select distinct
        customer_id,
        purchase_category,
        spend_usd,
        purchase_date
    from vendor_events
),

purchases as (
    select
        card_entries.customer_id,
        card_entries.transaction_id,
        card_entries.purchase_category,
        card_entries.category,
        card_entries.amount_usd,
        card_entries.transacted_at,
        of_vendors.purchase_date
    from card_entries
    left join of_vendors
        on
            card_entries.customer_id = of_vendors.customer_id
            and card_entries.purchase_category = of_vendors.purchase_category
            and card_entries.amount_usd = of_vendors.spend_usd
            and cast(card_entries.transacted_at as date) = of_vendors.purchase_date
    where card_entries.transaction_type = 'purchase'
),

numbered_purchases as (
    select
        *,
        row_number() over (
            partition by customer_id, purchase_category, amount_usd, purchase_date
            order by transacted_at, transaction_id
        ) as number_of_its_kind
    from purchases
    where purchase_date is not null
),

-- A vendor's event that was paid by card is in both feeds: same customer, day, amount and kind of
-- merchant. It counts once, as a card purchase, under what the vendor knows that it was. No vendor
-- tells of the other purchases.
visits as (
    select
        coalesce(numbered_purchases.customer_id, vendor_events.customer_id) as customer_id,
        coalesce(vendor_events.category, numbered_purchases.category) as category,
        numbered_purchases.transaction_id,
        numbered_purchases.amount_usd as card_spend_usd,
        case when numbered_purchases.transaction_id is null then vendor_events.spend_usd end
            as vendor_spend_usd,
        coalesce(numbered_purchases.transacted_at, vendor_events.occurred_at) as occurred_at
    from numbered_purchases
    full outer join vendor_events
        on
            numbered_purchases.customer_id = vendor_events.customer_id
            and numbered_purchases.purchase_category = vendor_events.purchase_category
            and numbered_purchases.amount_usd = vendor_events.spend_usd
            and numbered_purchases.purchase_date = vendor_events.purchase_date
            and numbered_purchases.number_of_its_kind = vendor_events.number_of_its_kind
    union all
    select
        customer_id,
        category,
        transaction_id,
        amount_usd as card_spend_usd,
        cast(null as decimal(18, 2)) as vendor_spend_usd,
        transacted_at as occurred_at
    from purchases
    where purchase_date is null
),

-- A refund or reversal takes its amount back from the category of its purchase; it is no visit.
refunds as (
    select
        card_entries.customer_id,
        coalesce(visits.category, card_entries.category) as category,
        -card_entries.amount_usd as card_spend_usd,
        card_entries.transacted_at as occurred_at
    from card_entries
    left join visits
        on
            card_entries.original_transaction_id = visits.transaction_id
            and card_entries.customer_id = visits.customer_id
    where card_entries.transaction_type <> 'purchase'
),

-- A page tells of an interest; what is looked at is no event until it is bought. Who has not logged
-- in yet is nobody.
page_views as (
    select
        clicks.customer_id,
        coalesce(own.preference_category, rest.preference_category) as category,
        clicks.occurred_at
    from clicks
    left join page_categories as own
        on clicks.page = own.page and clicks.action = own.action
    left join page_categories as rest
        on clicks.page = rest.page and rest.action = '*'
    where
        clicks.customer_id is not null
        and coalesce(own.preference_category, rest.preference_category) is not null
),

counted as (
    select 'concerts' as category
    union all
    select 'comedy' as category
    union all
    select 'sport' as category
),

last_changes as (
    select
        customer_id,
        category,
        max(changed_at) as changed_at
    from pattern_changes
    where is_in_current_pattern
    group by customer_id, category
),

-- The bank's own count of what a customer went to. It counts the same visits as card and vendors,
-- since ever and in tickets: it stands beside them and is not added.
pattern_counts as (
    select
        patterns.customer_id,
        counted.category,
        case counted.category
            when 'concerts' then patterns.number_of_concert_tickets
            when 'comedy' then patterns.number_of_comedy_shows
            when 'sport' then patterns.number_of_sport_events
        end as pattern_count,
        coalesce(last_changes.changed_at, patterns.created_at) as seen_at
    from patterns
    cross join counted
    left join last_changes
        on
            patterns.customer_id = last_changes.customer_id
            and counted.category = last_changes.category
),

evidence as (
    select
        customer_id,
        category,
        case when transaction_id is not null then 1 else 0 end as card_purchases,
        case when transaction_id is null then 1 else 0 end as vendor_events,
        coalesce(card_spend_usd, 0) as card_spend_usd,
        coalesce(vendor_spend_usd, 0) as vendor_spend_usd,
        0 as pattern_count,
        0 as page_views,
        {{ days_between('cast(occurred_at as date)', as_of_date()) }} as days_ago,
        occurred_at as seen_at
    from visits
    union all
    select
        customer_id,
        category,
        0 as card_purchases,
        0 as vendor_events,
        card_spend_usd,
        0 as vendor_spend_usd,
        0 as pattern_count,
        0 as page_views,
        {{ days_between('cast(occurred_at as date)', as_of_date()) }} as days_ago,
        cast(null as timestamp) as seen_at
    from refunds
    union all
    select
        customer_id,
        category,
        0 as card_purchases,
        0 as vendor_events,
        0 as card_spend_usd,
        0 as vendor_spend_usd,
        pattern_count,
        0 as page_views,
        cast(null as int) as days_ago,
        seen_at
    from pattern_counts
    where pattern_count > 0
    union all
    select
        customer_id,
        category,
        0 as card_purchases,
        0 as vendor_events,
        0 as card_spend_usd,
        0 as vendor_spend_usd,
        0 as pattern_count,
        1 as page_views,
        {{ days_between('cast(occurred_at as date)', as_of_date()) }} as days_ago,
        occurred_at as seen_at
    from page_views
),

per_category as (
    select
        customer_id,
        category,
        cast(sum(card_purchases) as bigint) as card_purchases,
        cast(sum(vendor_events) as bigint) as vendor_events,
        cast(sum(card_purchases) + sum(vendor_events) as bigint) as events,
        cast(sum(pattern_count) as bigint) as pattern_count,
        cast(sum(page_views) as bigint) as page_views,
        cast(sum(case when days_ago between 0 and 29 then page_views else 0 end) as bigint)
            as page_views_30d,
        cast(sum(card_spend_usd) as decimal(18, 2)) as card_spend_usd,
        cast(sum(vendor_spend_usd) as decimal(18, 2)) as vendor_spend_usd,
        cast(sum(card_spend_usd) + sum(vendor_spend_usd) as decimal(18, 2)) as spend_usd,
        cast(
            sum(
                case when days_ago between 0 and 29 then card_purchases + vendor_events else 0 end
            ) as bigint
        ) as events_30d,
        cast(
            sum(
                case when days_ago between 0 and 89 then card_purchases + vendor_events else 0 end
            ) as bigint
        ) as events_90d,
        cast(
            sum(
                case
                    when days_ago between 0 and 29 then card_spend_usd + vendor_spend_usd
                    else 0
                end
            ) as decimal(18, 2)
        ) as spend_30d_usd,
        cast(
            sum(
                case
                    when days_ago between 0 and 89 then card_spend_usd + vendor_spend_usd
                    else 0
                end
            ) as decimal(18, 2)
        ) as spend_90d_usd,
        max(seen_at) as last_seen_at
    from evidence
    group by customer_id, category
),

totals as (
    select
        *,
        cast(sum(spend_usd) over (partition by customer_id) as decimal(18, 2)) as total_spend_usd
    from per_category
),

final as (
    select
        customer_id,
        category,
        cast(
            row_number() over (
                partition by customer_id
                order by
                    spend_usd desc,
                    events desc,
                    pattern_count desc,
                    page_views desc,
                    category asc
            ) as int
        ) as preference_rank,
        events,
        card_purchases,
        vendor_events,
        pattern_count,
        page_views,
        spend_usd,
        card_spend_usd,
        vendor_spend_usd,
        {{ scale_amount('100.00', 'spend_usd', 'total_spend_usd') }} as spend_share_pct,
        events_30d,
        events_90d,
        spend_30d_usd,
        spend_90d_usd,
        page_views_30d,
        {{ trend_of('events_30d', 'events_90d') }} as trend,
        last_seen_at
    from totals
)

select * from final
