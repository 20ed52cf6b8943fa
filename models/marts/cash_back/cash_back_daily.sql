{{ recomputed_by_customer(keys=['customer_id', 'date_day']) }}

with

ledger as (
    select * from {{ ref('cash_back_ledger') }}
    where {{ of_changed_customers() }}
),

monthly as (
    select * from {{ ref('cash_back_monthly') }}
    where {{ of_changed_customers() }}
),

-- What moves a day: its transactions, and the fee and servicing cost that fall due on it.
movements as (
    select
        customer_id,
        cast(transacted_at as date) as date_day,
        transaction_month as month,
        1 as transactions,
        spend_usd,
        interchange_usd,
        cash_back_usd,
        cast(0 as decimal(18, 2)) as monthly_fee_usd,
        cast(0 as decimal(18, 2)) as servicing_cost_usd
    from ledger
    union all
    select
        customer_id,
        charged_on_date as date_day,
        month,
        0 as transactions,
        cast(0 as decimal(18, 2)) as spend_usd,
        cast(0 as decimal(18, 2)) as interchange_usd,
        cast(0 as decimal(18, 2)) as cash_back_usd,
        monthly_fee_usd,
        servicing_cost_usd
    from monthly
    where charged_on_date is not null
),

days as (
    select
        customer_id,
        date_day,
        month,
        cast(sum(transactions) as int) as transactions,
        cast(sum(spend_usd) as decimal(18, 2)) as spend_usd,
        cast(sum(interchange_usd) as decimal(18, 2)) as interchange_usd,
        cast(sum(cash_back_usd) as decimal(18, 2)) as cash_back_usd,
        cast(sum(monthly_fee_usd) as decimal(18, 2)) as monthly_fee_usd,
        cast(sum(servicing_cost_usd) as decimal(18, 2)) as servicing_cost_usd,
        cast(
            sum(interchange_usd + monthly_fee_usd - cash_back_usd - servicing_cost_usd)
            as decimal(18, 2)
        ) as net_usd
    from movements
    group by customer_id, date_day, month
),

final as (
    select
        customer_id,
        date_day,
        month,
        transactions,
        spend_usd,
        interchange_usd,
        cash_back_usd,
        monthly_fee_usd,
        servicing_cost_usd,
        net_usd,
        cast(
            sum(net_usd) over (
                partition by customer_id, month order by date_day
                rows between unbounded preceding and current row
            ) as decimal(18, 2)
        ) as net_month_to_date_usd
    from days
)

select * from final
