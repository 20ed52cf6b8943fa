-- Fails where the months do not add up to the ledger, to the cent, or a month's net is not what its
-- parts say.
with

ledger as (
    select
        customer_id,
        transaction_month as month,
        sum(spend_usd) as spend_usd,
        sum(interchange_usd) as interchange_usd,
        sum(cash_back_usd) as cash_back_usd
    from {{ ref('cash_back_ledger') }}
    group by customer_id, transaction_month
),

monthly as (
    select * from {{ ref('cash_back_monthly') }}
),

differences as (
    select
        coalesce(monthly.customer_id, ledger.customer_id) as customer_id,
        coalesce(monthly.month, ledger.month) as month,
        monthly.net_usd
    from monthly
    full outer join ledger
        on monthly.customer_id = ledger.customer_id and monthly.month = ledger.month
    where
        coalesce(monthly.spend_usd, 0) <> coalesce(ledger.spend_usd, 0)
        or coalesce(monthly.interchange_usd, 0) <> coalesce(ledger.interchange_usd, 0)
        or coalesce(monthly.cash_back_usd, 0) <> coalesce(ledger.cash_back_usd, 0)
        or monthly.net_usd
        <> monthly.interchange_usd + monthly.monthly_fee_usd
        - monthly.cash_back_usd - monthly.servicing_cost_usd
        or monthly.is_loss <> (monthly.net_usd < 0)
)

select * from differences
