{{ recomputed_by_customer(keys=['transaction_id']) }}

-- By customer and not by month: what a refund takes back was earned by its purchase, maybe months
-- before.
with

card_transactions as (
    select *
    from {{ ref('card_transactions') }}
    where
        transaction_type <> 'purchase'
        and {{ of_changed_customers() }}
),

purchases as (
    select * from {{ ref('cash_back_purchases') }}
    where {{ of_changed_customers() }}
),

enrolments as (
    select * from {{ ref('cash_back_enrolments') }}
    where {{ of_changed_customers() }}
),

merchant_categories as (
    select * from {{ ref('merchant_categories') }}
),

refunds as (
    select
        card_transactions.transaction_id,
        card_transactions.customer_id,
        card_transactions.transaction_type,
        card_transactions.original_transaction_id,
        card_transactions.transacted_at,
        cast(date_trunc('month', card_transactions.transacted_at) as date) as transaction_month,
        coalesce(card_transactions.currency = 'USD', false) as is_counted,
        case
            when card_transactions.currency = 'USD' then card_transactions.amount_usd
            else cast(0 as decimal(18, 2))
        end as refund_usd,
        coalesce(purchases.category, merchant_categories.category, 'other') as category,
        coalesce(purchases.programme, enrolments.programme) as programme,
        purchases.programme_valid_from,
        purchases.interchange_rate,
        purchases.cash_back_rate,
        purchases.amount_usd as original_amount_usd,
        purchases.interchange_usd as original_interchange_usd,
        purchases.cash_back_usd as original_cash_back_usd
    from card_transactions
    left join purchases
        on
            card_transactions.original_transaction_id = purchases.transaction_id
            and card_transactions.customer_id = purchases.customer_id
    left join merchant_categories
        on card_transactions.merchant_category_code = merchant_categories.merchant_category_code
    left join enrolments
        on
            card_transactions.customer_id = enrolments.customer_id
            and card_transactions.transacted_at >= enrolments.counts_from_at
            and card_transactions.transacted_at < enrolments.counts_until_at
),

running as (
    select
        *,
        sum(refund_usd) over (
            partition by customer_id, original_transaction_id
            order by transacted_at, transaction_id
            rows between unbounded preceding and current row
        ) as refunded_usd
    from refunds
),

-- What is kept of the purchase is scaled, not each part: refunds of the whole leave nothing.
kept as (
    select
        *,
        greatest(original_amount_usd - refunded_usd, 0) as kept_usd,
        greatest(original_amount_usd - refunded_usd + refund_usd, 0) as kept_before_usd
    from running
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

final as (
    select
        transaction_id,
        customer_id,
        transaction_type,
        original_transaction_id,
        programme,
        programme_valid_from,
        category,
        transacted_at,
        transaction_month,
        interchange_rate,
        cash_back_rate,
        cast(-refund_usd as decimal(18, 2)) as spend_usd,
        cast(coalesce(interchange_usd, 0) as decimal(18, 2)) as interchange_usd,
        cast(coalesce(cash_back_usd, 0) as decimal(18, 2)) as cash_back_usd,
        is_counted,
        original_amount_usd is not null as is_original_known
    from taken_back
)

select * from final
