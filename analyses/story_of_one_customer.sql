-- What happened with one customer, in order of time?
-- Columns: customer_id, happened_at, kind, what, amount_usd
-- Run with: dbt show --select story_of_one_customer --vars '{customer_id: 7}' --limit 1000
with

versions as (
    select
        customer_id,
        valid_from_at as happened_at,
        'customer' as kind,
        status || ', programme ' || coalesce(cash_back_programme, 'none') || ', ' || region as what,
        cast(null as decimal(18, 2)) as amount_usd
    from {{ ref('customers_history') }}
),

accounts as (
    select
        customer_id,
        opened_at as happened_at,
        'account' as kind,
        account_type || ' account opened' as what,
        cast(null as decimal(18, 2)) as amount_usd
    from {{ ref('accounts') }}
),

card_transactions as (
    select
        customer_id,
        transacted_at as happened_at,
        'card' as kind,
        transaction_type || ' at ' || merchant_name as what,
        amount_usd
    from {{ ref('card_transactions') }}
),

checking_transactions as (
    select
        customer_id,
        transacted_at as happened_at,
        'checking' as kind,
        direction || ', ' || purpose as what,
        amount_usd
    from {{ ref('checking_transactions') }}
),

loan_applications as (
    select
        customer_id,
        submitted_at as happened_at,
        'loan' as kind,
        product || ' loan application, now ' || status as what,
        amount_usd
    from {{ ref('loan_applications') }}
),

patterns as (
    select
        customer_id,
        valid_from_at as happened_at,
        'pattern' as kind,
        cast(coalesce(number_of_online_txns, 0) as string) || ' online transactions, '
        || cast(coalesce(number_of_concert_tickets, 0) as string) || ' concert tickets' as what,
        cast(null as decimal(18, 2)) as amount_usd
    from {{ ref('customer_patterns_history') }}
),

story as (
    select * from versions
    union all
    select * from accounts
    union all
    select * from card_transactions
    union all
    select * from checking_transactions
    union all
    select * from loan_applications
    union all
    select * from patterns
),

final as (
    select
        customer_id,
        happened_at,
        kind,
        what,
        amount_usd
    from story
    where customer_id = {{ var('customer_id', 1) }}
)

select * from final
order by happened_at, kind, what
