-- Whatever the rules in the seeds say: one row for each offer to who is no active customer, each
-- offer of a mortgage to who has bought a home, and each of a loan with an open application.
with

offers as (
    select
        customer_id,
        offer_id,
        cast(null as string) as product
    from {{ ref('personalized_offers') }}
    union all
    select
        customer_id,
        offer_id,
        product
    from {{ ref('personalized_loans') }}
),

problems as (
    select
        offers.customer_id,
        offers.offer_id,
        'not an active customer' as problem
    from offers
    left join {{ ref('customers') }} as customers
        on offers.customer_id = customers.customer_id
    where coalesce(customers.status, 'unknown') <> 'active'
    union all
    select
        offers.customer_id,
        offers.offer_id,
        'has bought a home' as problem
    from offers
    inner join {{ ref('customer_patterns') }} as patterns
        on offers.customer_id = patterns.customer_id
    where offers.product = 'home_mortgage' and patterns.home_mortgage_purchased_at is not null
    union all
    select
        offers.customer_id,
        offers.offer_id,
        'has an open application' as problem
    from offers
    inner join {{ ref('loan_applications') }} as applications
        on
            offers.customer_id = applications.customer_id
            and offers.product = applications.product
    where applications.status in ('submitted', 'approved')
)

select * from problems
