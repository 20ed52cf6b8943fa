-- Fails where the purchases of a customer's month earned more than the cap of their programme.
with

granted as (
    select
        customer_id,
        transaction_month,
        programme,
        sum(cash_back_usd) as cash_back_usd
    from {{ ref('cash_back_ledger') }}
    where transaction_type = 'purchase'
    group by customer_id, transaction_month, programme
),

over_cap as (
    select granted.*
    from granted
    inner join {{ ref('cash_back_programmes') }} as programmes
        on
            granted.programme = programmes.programme
            and granted.transaction_month >= programmes.valid_from
            and granted.transaction_month < coalesce(programmes.valid_to, date '9999-01-01')
    where granted.cash_back_usd > programmes.monthly_cap_usd
)

select * from over_cap
