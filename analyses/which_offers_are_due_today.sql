-- Which offers are to be made today, to whom, where, and why?
-- Columns: customer_id, offer_rank, offer_id, title, reason, value_usd, channel, valid_until_date
-- Run with: dbt show --select which_offers_are_due_today
with

offers as (
    select * from {{ ref('personalized_offers') }}
),

final as (
    select
        customer_id,
        offer_rank,
        offer_id,
        title,
        reason,
        value_usd,
        channel,
        valid_until_date
    from offers
    where valid_until_date >= {{ as_of_date() }}
)

select * from final
order by offer_rank asc, value_usd desc, customer_id asc
