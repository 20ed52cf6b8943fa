{{ recomputed_by_customer(keys=['customer_id', 'feature_at', 'known_from']) }}

with

moments as (
    select
        cast(date_day as timestamp) as feature_at,
        date_day as feature_month
    from {{ ref('dates') }}
    where date_day = month_start_date and date_day <= {{ as_of_month() }}
),

-- The months in which 90 days before a moment can lie.
months_back as (
    select
        feature_at,
        cast(feature_at - interval 1 month as date) as month
    from moments
    union all
    select
        feature_at,
        cast(feature_at - interval 2 month as date) as month
    from moments
    union all
    select
        feature_at,
        cast(feature_at - interval 3 month as date) as month
    from moments
    union all
    select
        feature_at,
        cast(feature_at - interval 4 month as date) as month
    from moments
),

card_transactions as (
    select * from {{ ref('card_transactions_known') }}
    where {{ of_changed_customers() }}
),

accounts as (
    select * from {{ ref('accounts_known') }}
    where {{ of_changed_customers() }}
),

customers as (
    select * from {{ ref('customers_known') }}
    where {{ of_changed_customers() }}
),

patterns as (
    select * from {{ ref('customer_patterns_known') }}
    where {{ of_changed_customers() }}
),

-- Each category as a bit, so that sets of categories can be united; `other` is the first.
merchant_categories as (
    select
        merchant_category_code,
        category,
        cast(
            power(
                2,
                case
                    when category = 'other' then 0 else dense_rank() over (order by category)
                end
            ) as bigint
        ) as category_bit
    from {{ ref('merchant_categories') }}
),

-- No window of a moment begins on the 4th to the 27th of a month: these days count as one. What was
-- known before the first moment that can see it was known in time, whenever that was.
transactions as (
    select
        card_transactions.customer_id,
        case
            when extract(day from card_transactions.transacted_at) between 4 and 27
                then cast(
                    date_trunc('month', card_transactions.transacted_at) + interval 14 day as date
                )
            else cast(card_transactions.transacted_at as date)
        end as counts_on_date,
        greatest(
            card_transactions.known_from,
            {{ first_moment_after('card_transactions.transacted_at') }}
        ) as known_from,
        card_transactions.known_to,
        card_transactions.transacted_at,
        card_transactions.transaction_type = 'purchase' as is_purchase,
        card_transactions.amount_usd,
        coalesce(merchant_categories.category = 'travel', false) as is_travel,
        coalesce(merchant_categories.category_bit, 1) as category_bit
    from card_transactions
    left join merchant_categories
        on card_transactions.merchant_category_code = merchant_categories.merchant_category_code
),

-- What every moment sees alike, counted together.
alike as (
    select
        customer_id,
        counts_on_date,
        known_from,
        known_to,
        sum(case when is_purchase then 1 else 0 end) as purchases,
        cast(sum(case when is_purchase then amount_usd else 0 end) as decimal(18, 2))
            as purchased_usd,
        cast(sum(case when is_purchase then 0 else amount_usd end) as decimal(18, 2))
            as refunded_usd,
        cast(
            sum(case when is_purchase and is_travel then amount_usd else 0 end) as decimal(18, 2)
        ) as travel_usd,
        bit_or(case when is_purchase then category_bit else 0 end) as category_bits,
        max(case when is_purchase then transacted_at end) as last_purchase_at
    from transactions
    group by customer_id, counts_on_date, known_from, known_to
),

-- At every moment that looks back on it.
looked_back_on as (
    select
        alike.*,
        months_back.feature_at,
        alike.counts_on_date >= months_back.feature_at - interval 30 day as is_in_30d,
        greatest(alike.known_from, months_back.feature_at) as seen_from
    from alike
    inner join months_back
        on
            cast(date_trunc('month', alike.counts_on_date) as date) = months_back.month
            and alike.counts_on_date >= months_back.feature_at - interval 90 day
    where alike.known_to is null or alike.known_to > months_back.feature_at
),

transactions_at as (
    select
        customer_id,
        feature_at,
        seen_from,
        known_to as seen_to,
        sum(case when is_in_30d then purchases else 0 end) as purchases_30d,
        sum(purchases) as purchases_90d,
        cast(
            sum(case when is_in_30d then purchased_usd - refunded_usd else 0 end) as decimal(18, 2)
        ) as spend_30d_usd,
        cast(sum(purchased_usd) as decimal(18, 2)) as purchased_usd,
        cast(sum(refunded_usd) as decimal(18, 2)) as refunded_usd,
        cast(sum(travel_usd) as decimal(18, 2)) as travel_usd,
        bit_or(category_bits) as category_bits
    from looked_back_on
    group by customer_id, feature_at, seen_from, known_to
),

purchases as (
    select
        customer_id,
        known_from,
        known_to,
        last_purchase_at as changed_at,
        last_purchase_at as _sequence
    from alike
    where last_purchase_at is not null
),

last_purchases_at as (
    select *
    from (
        {{ states_at_moments('purchases', keys=['customer_id'], until='known_to') | indent(8) }}
    ) as placed_purchases
    where known_to is null or known_to > feature_at
),

accounts_at as (
    {{ states_at_moments('accounts', keys=['account_id']) }}
),

customers_at as (
    {{ states_at_moments('customers', keys=['customer_id']) }}
),

patterns_at as (
    {{ states_at_moments('patterns', keys=['customer_id']) }}
),

-- Whenever something that a moment looks back on became known, or was known no more.
versions as (
    select
        customer_id,
        feature_at,
        seen_from as known_from
    from transactions_at
    union distinct
    select
        customer_id,
        feature_at,
        seen_to as known_from
    from transactions_at
    where seen_to is not null
    union distinct
    select
        customer_id,
        feature_at,
        seen_from as known_from
    from last_purchases_at
    union distinct
    select
        customer_id,
        feature_at,
        known_to as known_from
    from last_purchases_at
    where known_to is not null
    union distinct
    select
        customer_id,
        feature_at,
        seen_from as known_from
    from accounts_at
    union distinct
    select
        customer_id,
        feature_at,
        seen_from as known_from
    from customers_at
    union distinct
    select
        customer_id,
        feature_at,
        seen_from as known_from
    from patterns_at
),

spend as (
    select
        versions.customer_id,
        versions.feature_at,
        versions.known_from,
        sum(transactions_at.purchases_30d) as purchases_30d,
        sum(transactions_at.purchases_90d) as purchases_90d,
        cast(sum(transactions_at.spend_30d_usd) as decimal(18, 2)) as spend_30d_usd,
        cast(sum(transactions_at.purchased_usd) as decimal(18, 2)) as purchased_usd,
        cast(sum(transactions_at.refunded_usd) as decimal(18, 2)) as refunded_usd,
        cast(sum(transactions_at.travel_usd) as decimal(18, 2)) as travel_usd,
        bit_count(bit_or(transactions_at.category_bits)) as categories_90d
    from versions
    inner join transactions_at
        on
            versions.customer_id = transactions_at.customer_id
            and versions.feature_at = transactions_at.feature_at
            and versions.known_from >= transactions_at.seen_from
            and (transactions_at.seen_to is null or versions.known_from < transactions_at.seen_to)
    group by versions.customer_id, versions.feature_at, versions.known_from
),

last_purchases as (
    {{ newest_known_states('last_purchases_at', keys=['customer_id'], until='known_to') }}
),

newest_accounts as (
    {{ newest_known_states('accounts_at', keys=['account_id']) }}
),

newest_customers as (
    {{ newest_known_states('customers_at', keys=['customer_id']) }}
),

newest_patterns as (
    {{ newest_known_states('patterns_at', keys=['customer_id']) }}
),

balances as (
    select
        customer_id,
        feature_at,
        version_from,
        cast(sum(balance_usd) as decimal(18, 2)) as balance_usd
    from newest_accounts
    where not is_deleted
    group by customer_id, feature_at, version_from
),

joined as (
    select
        versions.customer_id,
        versions.feature_at,
        versions.known_from,
        {{ days_between('newest_customers.created_at', 'versions.feature_at') }} as tenure_days,
        newest_customers.cash_back_programme,
        balances.balance_usd,
        newest_patterns.number_of_online_txns,
        {{ engagement_level('newest_patterns.number_of_online_txns') }} as engagement_level,
        case
            when newest_patterns.is_deleted = false
                then
                    coalesce(newest_patterns.number_of_concert_tickets, 0)
                    + coalesce(newest_patterns.number_of_comedy_shows, 0)
                    + coalesce(newest_patterns.number_of_sport_events, 0)
        end as number_of_events,
        coalesce(spend.purchases_30d, 0) as purchases_30d,
        coalesce(spend.purchases_90d, 0) as purchases_90d,
        coalesce(spend.spend_30d_usd, 0) as spend_30d_usd,
        coalesce(spend.purchased_usd - spend.refunded_usd, 0) as spend_90d_usd,
        {{ scale_amount('spend.purchased_usd', '1', 'spend.purchases_90d') }}
            as average_purchase_90d_usd,
        coalesce(spend.categories_90d, 0) as categories_90d,
        {{ scale_amount('100.00', 'spend.travel_usd', 'spend.purchased_usd') }}
            as travel_share_90d_pct,
        {{ scale_amount('100.00', 'spend.refunded_usd', 'spend.purchased_usd') }}
            as refund_share_90d_pct,
        {{ days_between('last_purchases.changed_at', 'versions.feature_at') }}
            as days_since_last_purchase
    from versions
    left join spend
        on
            versions.customer_id = spend.customer_id
            and versions.feature_at = spend.feature_at
            and versions.known_from = spend.known_from
    left join last_purchases
        on
            versions.customer_id = last_purchases.customer_id
            and versions.feature_at = last_purchases.feature_at
            and versions.known_from = last_purchases.version_from
    left join balances
        on
            versions.customer_id = balances.customer_id
            and versions.feature_at = balances.feature_at
            and versions.known_from = balances.version_from
    left join newest_customers
        on
            versions.customer_id = newest_customers.customer_id
            and versions.feature_at = newest_customers.feature_at
            and versions.known_from = newest_customers.version_from
    left join newest_patterns
        on
            versions.customer_id = newest_patterns.customer_id
            and versions.feature_at = newest_patterns.feature_at
            and versions.known_from = newest_patterns.version_from
),

typed as (
    select
        customer_id,
        feature_at,
        known_from,
        cast(tenure_days as bigint) as tenure_days,
        cash_back_programme,
        balance_usd,
        cast(number_of_online_txns as bigint) as number_of_online_txns,
        engagement_level,
        cast(number_of_events as bigint) as number_of_events,
        cast(purchases_30d as bigint) as purchases_30d,
        cast(purchases_90d as bigint) as purchases_90d,
        cast(spend_30d_usd as decimal(18, 2)) as spend_30d_usd,
        cast(spend_90d_usd as decimal(18, 2)) as spend_90d_usd,
        cast(average_purchase_90d_usd as decimal(18, 2)) as average_purchase_90d_usd,
        cast(categories_90d as bigint) as categories_90d,
        cast(travel_share_90d_pct as decimal(5, 2)) as travel_share_90d_pct,
        cast(refund_share_90d_pct as decimal(18, 2)) as refund_share_90d_pct,
        cast(days_since_last_purchase as bigint) as days_since_last_purchase
    from joined
),

-- News that changes no feature starts no version.
differing as (
    select *
    from typed
    qualify
        {{ differs_from_row_before(
            feature_names(), partition_by=['customer_id', 'feature_at'], order_by='known_from'
        ) }}
),

final as (
    select
        customer_id,
        feature_at,
        known_from,
        lead(known_from) over (partition by customer_id, feature_at order by known_from)
            as known_to,
        tenure_days,
        cash_back_programme,
        balance_usd,
        number_of_online_txns,
        engagement_level,
        number_of_events,
        purchases_30d,
        purchases_90d,
        spend_30d_usd,
        spend_90d_usd,
        average_purchase_90d_usd,
        categories_90d,
        travel_share_90d_pct,
        refund_share_90d_pct,
        days_since_last_purchase
    from differing
)

select * from final
