with

card_transactions as (
    select * from {{ ref('card_transactions') }}
),

enrolments as (
    select * from {{ ref('cash_back_enrolments') }}
),

merchant_categories as (
    select * from {{ ref('merchant_categories') }}
),

interchange_rates as (
    select * from {{ ref('interchange_rates') }}
),

programmes as (
    select * from {{ ref('cash_back_programmes') }}
),

cash_back_rates as (
    select * from {{ ref('cash_back_rates') }}
),

transactions as (
    select
        card_transactions.transaction_id,
        card_transactions.customer_id,
        card_transactions.transaction_type,
        card_transactions.original_transaction_id,
        card_transactions.amount_usd,
        card_transactions.transacted_at,
        cast(card_transactions.transacted_at as date) as transaction_date,
        cast(date_trunc('month', card_transactions.transacted_at) as date) as transaction_month,
        coalesce(merchant_categories.category, 'other') as category,
        enrolments.programme
    from card_transactions
    left join merchant_categories
        on card_transactions.merchant_category_code = merchant_categories.merchant_category_code
    left join enrolments
        on
            card_transactions.customer_id = enrolments.customer_id
            and card_transactions.transacted_at >= enrolments.counts_from_at
            and card_transactions.transacted_at < enrolments.counts_until_at
),

-- What a purchase would earn if there were no cap.
purchases as (
    select
        transactions.*,
        coalesce(
            {{ round_half_even('transactions.amount_usd * interchange_rates.interchange_rate') }}, 0
        ) as interchange_usd,
        coalesce(
            {{ round_half_even('transactions.amount_usd * cash_back_rates.cash_back_rate') }}, 0
        ) as uncapped_usd,
        coalesce(programmes.monthly_cap_usd, 0) as monthly_cap_usd
    from transactions
    left join interchange_rates
        on
            transactions.category = interchange_rates.category
            and transactions.transaction_date >= interchange_rates.valid_from
            and transactions.transaction_date
            < coalesce(interchange_rates.valid_to, date '9999-01-01')
    left join programmes
        on
            transactions.programme = programmes.programme
            and transactions.transaction_date >= programmes.valid_from
            and transactions.transaction_date < coalesce(programmes.valid_to, date '9999-01-01')
    left join cash_back_rates
        on
            transactions.programme = cash_back_rates.programme
            and transactions.category = cash_back_rates.category
            and transactions.transaction_date >= cash_back_rates.valid_from
            and transactions.transaction_date
            < coalesce(cash_back_rates.valid_to, date '9999-01-01')
    where transactions.transaction_type = 'purchase'
),

-- The cap of a customer's month under one programme is allotted in order of time, then id: what is
-- granted so far is the running total, cut at the cap.
running as (
    select
        *,
        sum(uncapped_usd) over (
            partition by customer_id, transaction_month, programme
            order by transacted_at, transaction_id
            rows between unbounded preceding and current row
        ) as uncapped_so_far_usd
    from purchases
),

granted as (
    select
        *,
        least(uncapped_so_far_usd, monthly_cap_usd)
        - least(uncapped_so_far_usd - uncapped_usd, monthly_cap_usd) as cash_back_usd,
        monthly_cap_usd - least(uncapped_so_far_usd, monthly_cap_usd) as cap_left_usd
    from running
),

-- Refunds and reversals take interchange and cash back of their purchase back in proportion. What
-- is kept of the purchase is scaled, not each part, so that refunds of the whole leave nothing.
refunds as (
    select
        transactions.*,
        granted.amount_usd as original_amount_usd,
        granted.interchange_usd as original_interchange_usd,
        granted.cash_back_usd as original_cash_back_usd,
        granted.category as original_category,
        granted.programme as original_programme,
        sum(transactions.amount_usd) over (
            partition by transactions.original_transaction_id
            order by transactions.transacted_at, transactions.transaction_id
            rows between unbounded preceding and current row
        ) as refunded_usd
    from transactions
    left join granted
        on transactions.original_transaction_id = granted.transaction_id
    where transactions.transaction_type <> 'purchase'
),

kept as (
    select
        *,
        greatest(original_amount_usd - refunded_usd, 0) as kept_usd,
        greatest(original_amount_usd - refunded_usd + amount_usd, 0) as kept_before_usd
    from refunds
),

taken_back as (
    select
        *,
        {{ scale_amount('original_interchange_usd', 'kept_usd', 'original_amount_usd') }}
        - {{ scale_amount('original_interchange_usd', 'kept_before_usd', 'original_amount_usd') }}
            as interchange_usd,
        {{ scale_amount('original_cash_back_usd', 'kept_usd', 'original_amount_usd') }}
        - {{ scale_amount('original_cash_back_usd', 'kept_before_usd', 'original_amount_usd') }}
            as cash_back_usd
    from kept
),

entries as (
    select
        transaction_id,
        customer_id,
        transaction_type,
        programme,
        category,
        transacted_at,
        transaction_month,
        amount_usd as spend_usd,
        interchange_usd,
        cash_back_usd,
        cap_left_usd,
        true as is_original_known
    from granted
    union all
    select
        transaction_id,
        customer_id,
        transaction_type,
        coalesce(original_programme, programme) as programme,
        coalesce(original_category, category) as category,
        transacted_at,
        transaction_month,
        -amount_usd as spend_usd,
        coalesce(interchange_usd, 0) as interchange_usd,
        coalesce(cash_back_usd, 0) as cash_back_usd,
        cast(null as decimal(18, 2)) as cap_left_usd,
        original_amount_usd is not null as is_original_known
    from taken_back
),

final as (
    select
        transaction_id,
        customer_id,
        transaction_type,
        programme,
        category,
        transacted_at,
        transaction_month,
        cast(spend_usd as decimal(18, 2)) as spend_usd,
        cast(interchange_usd as decimal(18, 2)) as interchange_usd,
        cast(cash_back_usd as decimal(18, 2)) as cash_back_usd,
        cast(cap_left_usd as decimal(18, 2)) as cap_left_usd,
        is_original_known
    from entries
)

select * from final
