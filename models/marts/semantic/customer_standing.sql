with

customers as (
    select * from {{ ref('customers') }}
),

engagement as (
    select * from {{ ref('customer_engagement') }}
),

break_even as (
    select * from {{ ref('cash_back_break_even') }}
    where is_newest_programme
),

ledger as (
    select * from {{ ref('cash_back_ledger') }}
),

-- As on the dashboard: the 30 days before the newest card transaction.
clock as (
    select max(transacted_at) as as_of
    from ledger
),

active as (
    select distinct ledger.customer_id
    from ledger
    cross join clock
    where ledger.transacted_at > clock.as_of - interval 30 day
),

made as (
    select customer_id from {{ ref('personalized_offers') }}
    union all
    select customer_id from {{ ref('personalized_loans') }}
),

offers as (
    select
        customer_id,
        count(*) as offers
    from made
    group by customer_id
),

-- A customer who was deleted keeps what the bank paid, and is counted with it.
known as (
    select customer_id from customers
    union distinct
    select customer_id from engagement
    union distinct
    select customer_id from break_even
    union distinct
    select customer_id from active
    union distinct
    select customer_id from offers
),

final as (
    select
        known.customer_id,
        {{ as_of_date() }} as as_of_date,
        break_even.programme,
        engagement.engagement_level,
        break_even.break_even_status,
        coalesce(offers.offers, 0) as offers,
        customers.customer_id is not null as is_customer,
        active.customer_id is not null as is_active
    from known
    left join customers
        on known.customer_id = customers.customer_id
    left join engagement
        on known.customer_id = engagement.customer_id
    left join break_even
        on known.customer_id = break_even.customer_id
    left join active
        on known.customer_id = active.customer_id
    left join offers
        on known.customer_id = offers.customer_id
)

select * from final
