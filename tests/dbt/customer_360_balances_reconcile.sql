-- Balances of the mart are those of the accounts of the customers that the bank has, to the cent.
with

in_silver as (
    select
        accounts.customer_id,
        sum(accounts.balance_usd) as balance_usd,
        count(*) as accounts
    from {{ ref('accounts') }} as accounts
    inner join {{ ref('customers') }} as customers
        on accounts.customer_id = customers.customer_id
    group by accounts.customer_id
)

select
    customer_360.customer_id,
    customer_360.total_balance_usd,
    in_silver.balance_usd
from {{ ref('customer_360') }} as customer_360
left join in_silver
    on customer_360.customer_id = in_silver.customer_id
where
    customer_360.total_balance_usd <> coalesce(in_silver.balance_usd, 0)
    or customer_360.accounts <> coalesce(in_silver.accounts, 0)
    or customer_360.total_balance_usd
    <> customer_360.checking_balance_usd
    + customer_360.savings_balance_usd
    + customer_360.card_balance_usd
