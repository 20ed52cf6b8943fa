-- Fails where ledger, days, months and losses do not add up to each other, to the cent, where a
-- card transaction is not in the ledger, or where a net is not what its parts say.
with

ledger as (
    select
        customer_id,
        transaction_month as month,
        count(*) as transactions,
        sum(spend_usd) as spend_usd,
        sum(interchange_usd) as interchange_usd,
        sum(cash_back_usd) as cash_back_usd,
        sum(withheld_by_cap_usd) as withheld_by_cap_usd
    from {{ ref('cash_back_ledger') }}
    group by customer_id, transaction_month
),

daily as (
    select
        customer_id,
        month,
        sum(transactions) as transactions,
        sum(spend_usd) as spend_usd,
        sum(interchange_usd) as interchange_usd,
        sum(cash_back_usd) as cash_back_usd,
        sum(monthly_fee_usd) as monthly_fee_usd,
        sum(servicing_cost_usd) as servicing_cost_usd,
        sum(net_usd) as net_usd
    from {{ ref('cash_back_daily') }}
    group by customer_id, month
),

monthly as (
    select * from {{ ref('cash_back_monthly') }}
),

ledger_is_months as (
    select
        'ledger and months differ' as difference,
        coalesce(monthly.customer_id, ledger.customer_id) as customer_id,
        coalesce(monthly.month, ledger.month) as month
    from monthly
    full outer join ledger
        on monthly.customer_id = ledger.customer_id and monthly.month = ledger.month
    where
        coalesce(monthly.transactions, 0) <> coalesce(ledger.transactions, 0)
        or coalesce(monthly.spend_usd, 0) <> coalesce(ledger.spend_usd, 0)
        or coalesce(monthly.interchange_usd, 0) <> coalesce(ledger.interchange_usd, 0)
        or coalesce(monthly.cash_back_usd, 0) <> coalesce(ledger.cash_back_usd, 0)
        or coalesce(monthly.withheld_by_cap_usd, 0) <> coalesce(ledger.withheld_by_cap_usd, 0)
        or (monthly.customer_id is null and ledger.customer_id is not null)
),

days_are_months as (
    select
        'days and months differ' as difference,
        coalesce(monthly.customer_id, daily.customer_id) as customer_id,
        coalesce(monthly.month, daily.month) as month
    from monthly
    full outer join daily
        on monthly.customer_id = daily.customer_id and monthly.month = daily.month
    where
        monthly.customer_id is null
        or daily.customer_id is null
        or monthly.transactions <> daily.transactions
        or monthly.spend_usd <> daily.spend_usd
        or monthly.interchange_usd <> daily.interchange_usd
        or monthly.cash_back_usd <> daily.cash_back_usd
        or monthly.monthly_fee_usd <> daily.monthly_fee_usd
        or monthly.servicing_cost_usd <> daily.servicing_cost_usd
        or monthly.net_usd <> daily.net_usd
),

nets_are_their_parts as (
    select
        'a net is not what its parts say' as difference,
        customer_id,
        month
    from monthly
    where
        net_usd <> interchange_usd + monthly_fee_usd - cash_back_usd - servicing_cost_usd
        or is_loss <> (net_usd < 0)
),

months_lost as (
    select
        customer_id,
        sum(-net_usd) as loss_usd
    from monthly
    where is_loss and is_over
    group by customer_id
),

losses as (
    select
        customer_id,
        sum(loss_usd) as loss_usd,
        sum(cash_back_usd + servicing_cost_usd - interchange_usd - monthly_fee_usd) as parts_usd
    from {{ ref('cash_back_losses') }}
    group by customer_id
),

losses_are_months as (
    select
        'losses and months differ' as difference,
        coalesce(months_lost.customer_id, losses.customer_id) as customer_id,
        cast(null as date) as month
    from months_lost
    full outer join losses
        on months_lost.customer_id = losses.customer_id
    where
        months_lost.customer_id is null
        or losses.customer_id is null
        or months_lost.loss_usd <> losses.loss_usd
        or losses.loss_usd <> losses.parts_usd
),

all_days as (
    select sum(net_usd) as net_usd
    from daily
),

result as (
    select
        sum(net_usd) as net_usd,
        max_by(net_to_date_usd, date_day) as net_to_date_usd
    from {{ ref('cash_back_result_daily') }}
),

result_is_days as (
    select
        'the result of the bank and the days differ' as difference,
        cast(null as bigint) as customer_id,
        cast(null as date) as month
    from result
    cross join all_days
    where
        result.net_usd <> all_days.net_usd
        or result.net_to_date_usd <> all_days.net_usd
),

-- Every transaction once, and no other.
missing as (
    select
        'a card transaction is not in the ledger' as difference,
        transactions.customer_id,
        cast(null as date) as month
    from {{ ref('card_transactions') }} as transactions
    left join {{ ref('cash_back_ledger') }} as entries
        on
            transactions.transaction_id = entries.transaction_id
            and transactions.customer_id = entries.customer_id
            and transactions.transacted_at = entries.transacted_at
            and transactions.transaction_type = entries.transaction_type
    where entries.transaction_id is null
)

select * from ledger_is_months
union all
select * from days_are_months
union all
select * from nets_are_their_parts
union all
select * from losses_are_months
union all
select * from result_is_days
union all
select * from missing
