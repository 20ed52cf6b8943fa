{{ recomputed_by_customer_month(keys=['transaction_id'], month='transaction_month') }}

with

card_transactions as (
    select *
    from {{ ref('card_transactions') }}
    where
        transaction_type = 'purchase'
        and {{ of_changed_customer_months(
            month="cast(date_trunc('month', transacted_at) as date)"
        ) }}
),

enrolments as (
    select * from {{ ref('cash_back_enrolments') }}
    where {{ of_changed_customers() }}
),

merchant_categories as (
    select * from {{ ref('merchant_categories') }}
),

interchange_rates as (
    select * from {{ ref('interchange_rates') }}
),

terms as (
    select * from {{ ref('cash_back_terms') }}
),

cash_back_rates as (
    select * from {{ ref('cash_back_rates') }}
),

purchases as (
    select
        card_transactions.transaction_id,
        card_transactions.customer_id,
        card_transactions.amount_usd,
        card_transactions.transacted_at,
        coalesce(card_transactions.currency = 'USD', false) as is_counted,
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

-- What a purchase would earn if there were no cap. An amount in another currency is not money that
-- can be added here: it earns nothing.
rated as (
    select
        purchases.*,
        terms.programme_valid_from,
        interchange_rates.interchange_rate,
        cash_back_rates.cash_back_rate,
        case
            when not purchases.is_counted then cast(0 as decimal(18, 2))
            else coalesce(
                {{ round_half_even('purchases.amount_usd * interchange_rates.interchange_rate') }},
                0
            )
        end as interchange_usd,
        case
            when not purchases.is_counted then cast(0 as decimal(18, 2))
            else coalesce(
                {{ round_half_even('purchases.amount_usd * cash_back_rates.cash_back_rate') }}, 0
            )
        end as uncapped_usd,
        coalesce(terms.monthly_cap_usd, 0) as monthly_cap_usd
    from purchases
    left join interchange_rates
        on
            purchases.category = interchange_rates.category
            and purchases.transaction_date >= interchange_rates.valid_from
            and purchases.transaction_date
            < coalesce(interchange_rates.valid_to, date '9999-01-01')
    left join terms
        on
            purchases.programme = terms.programme
            and purchases.transaction_month >= terms.holds_from_month
            and purchases.transaction_month < terms.holds_to_month
    left join cash_back_rates
        on
            purchases.programme = cash_back_rates.programme
            and purchases.category = cash_back_rates.category
            and purchases.transaction_date >= cash_back_rates.valid_from
            and purchases.transaction_date
            < coalesce(cash_back_rates.valid_to, date '9999-01-01')
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
    from rated
),

granted as (
    select
        *,
        least(uncapped_so_far_usd, monthly_cap_usd)
        - least(uncapped_so_far_usd - uncapped_usd, monthly_cap_usd) as cash_back_usd,
        monthly_cap_usd - least(uncapped_so_far_usd, monthly_cap_usd) as cap_left_usd
    from running
),

final as (
    select
        transaction_id,
        customer_id,
        programme,
        programme_valid_from,
        category,
        transacted_at,
        transaction_month,
        interchange_rate,
        cash_back_rate,
        amount_usd,
        cast(case when is_counted then amount_usd else 0 end as decimal(18, 2)) as spend_usd,
        cast(interchange_usd as decimal(18, 2)) as interchange_usd,
        cast(cash_back_usd as decimal(18, 2)) as cash_back_usd,
        cast(uncapped_usd - cash_back_usd as decimal(18, 2)) as withheld_by_cap_usd,
        cast(cap_left_usd as decimal(18, 2)) as cap_left_usd,
        is_counted
    from granted
)

select * from final
