-- Fails where the purchases of a customer's month earned more than the cap of their programme, or
-- where what was granted, what is left and the cap do not fit together.
with

granted as (
    select
        customer_id,
        transaction_month,
        programme,
        sum(cash_back_usd) as cash_back_usd,
        min(cap_left_usd) as cap_left_usd
    from {{ ref('cash_back_purchases') }}
    group by customer_id, transaction_month, programme
),

off_cap as (
    select granted.*
    from granted
    left join {{ ref('cash_back_terms') }} as terms
        on
            granted.programme = terms.programme
            and granted.transaction_month >= terms.holds_from_month
            and granted.transaction_month < terms.holds_to_month
    where
        granted.cash_back_usd > coalesce(terms.monthly_cap_usd, 0)
        or granted.cash_back_usd + granted.cap_left_usd <> coalesce(terms.monthly_cap_usd, 0)
)

select * from off_cap
