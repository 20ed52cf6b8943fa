{{ recomputed_by_customer(keys=['customer_id', 'feature_at', 'known_from']) }}

with

moments as (
    select cast(date_day as timestamp) as feature_at
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

merchant_categories as (
    select * from {{ ref('merchant_categories') }}
),

-- A transaction at every moment that looks back on it.
transactions_at as (
    select
        card_transactions.customer_id,
        months_back.feature_at,
        card_transactions.transaction_type = 'purchase' as is_purchase,
        card_transactions.transacted_at >= months_back.feature_at - interval 30 day as is_in_30d,
        card_transactions.amount_usd,
        coalesce(merchant_categories.category, 'other') as category,
        greatest(card_transactions.known_from, months_back.feature_at) as seen_from,
        card_transactions.known_to as seen_to
    from card_transactions
    inner join months_back
        on
            cast(date_trunc('month', card_transactions.transacted_at) as date) = months_back.month
            and card_transactions.transacted_at >= months_back.feature_at - interval 90 day
    left join merchant_categories
        on card_transactions.merchant_category_code = merchant_categories.merchant_category_code
    where
        card_transactions.known_to is null
        or card_transactions.known_to > months_back.feature_at
),

-- A purchase counts as the last one up to the moment at which a later one was known in time, for
-- good.
purchases as (
    select
        customer_id,
        transaction_id,
        transacted_at,
        known_from,
        known_to,
        {{ first_moment_after('transacted_at') }} as first_feature_at
    from card_transactions
    where transaction_type = 'purchase'
),

last_purchases as (
    select
        *,
        min(
            case
                when known_to is null and known_from <= first_feature_at then first_feature_at
            end
        ) over (
            partition by customer_id
            order by transacted_at desc, transaction_id desc, known_from desc
            rows between unbounded preceding and 1 preceding
        ) as replaced_at
    from purchases
),

last_purchases_at as (
    select
        last_purchases.customer_id,
        moments.feature_at,
        last_purchases.transacted_at,
        greatest(last_purchases.known_from, moments.feature_at) as seen_from,
        last_purchases.known_to as seen_to
    from last_purchases
    inner join moments
        on
            last_purchases.first_feature_at <= moments.feature_at
            and (
                last_purchases.replaced_at is null
                or last_purchases.replaced_at > moments.feature_at
            )
    where
        (last_purchases.known_to is null or last_purchases.known_to > moments.feature_at)
        and (
            last_purchases.replaced_at is null
            or last_purchases.replaced_at > last_purchases.first_feature_at
        )
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
        seen_to as known_from
    from last_purchases_at
    where seen_to is not null
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

known_transactions as (
    select
        versions.customer_id,
        versions.feature_at,
        versions.known_from,
        transactions_at.is_purchase,
        transactions_at.is_in_30d,
        transactions_at.amount_usd,
        transactions_at.category
    from versions
    inner join transactions_at
        on
            versions.customer_id = transactions_at.customer_id
            and versions.feature_at = transactions_at.feature_at
            and versions.known_from >= transactions_at.seen_from
            and (transactions_at.seen_to is null or versions.known_from < transactions_at.seen_to)
),

spend as (
    select
        customer_id,
        feature_at,
        known_from,
        sum(case when is_purchase and is_in_30d then 1 else 0 end) as purchases_30d,
        sum(case when is_purchase then 1 else 0 end) as purchases_90d,
        sum(case when not is_in_30d then 0 when is_purchase then amount_usd else -amount_usd end)
            as spend_30d_usd,
        cast(sum(case when is_purchase then amount_usd else 0 end) as decimal(18, 2))
            as purchased_usd,
        cast(sum(case when is_purchase then 0 else amount_usd end) as decimal(18, 2))
            as refunded_usd,
        cast(
            sum(case when is_purchase and category = 'travel' then amount_usd else 0 end)
            as decimal(18, 2)
        ) as travel_usd,
        count(distinct case when is_purchase then category end) as categories_90d
    from known_transactions
    group by customer_id, feature_at, known_from
),

last_purchase as (
    select
        versions.customer_id,
        versions.feature_at,
        versions.known_from,
        max(last_purchases_at.transacted_at) as last_purchase_at
    from versions
    inner join last_purchases_at
        on
            versions.customer_id = last_purchases_at.customer_id
            and versions.feature_at = last_purchases_at.feature_at
            and versions.known_from >= last_purchases_at.seen_from
            and (
                last_purchases_at.seen_to is null
                or versions.known_from < last_purchases_at.seen_to
            )
    group by versions.customer_id, versions.feature_at, versions.known_from
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
        {{ days_between('last_purchase.last_purchase_at', 'versions.feature_at') }}
            as days_since_last_purchase
    from versions
    left join spend
        on
            versions.customer_id = spend.customer_id
            and versions.feature_at = spend.feature_at
            and versions.known_from = spend.known_from
    left join last_purchase
        on
            versions.customer_id = last_purchase.customer_id
            and versions.feature_at = last_purchase.feature_at
            and versions.known_from = last_purchase.known_from
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
