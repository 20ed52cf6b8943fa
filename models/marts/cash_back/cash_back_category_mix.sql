{{ recomputed_by_customer(keys=['customer_id', 'programme', 'category']) }}

with

ledger as (
    select * from {{ ref('cash_back_ledger') }}
    where {{ of_changed_customers() }}
),

months as (
    select
        customer_id,
        month,
        programme
    from {{ ref('cash_back_monthly') }}
    where
        is_over
        and programme is not null
        and {{ of_changed_customers() }}
),

-- By the programme of the month, as break-even is.
categories as (
    select
        ledger.customer_id,
        months.programme,
        ledger.category,
        cast(sum(ledger.spend_usd) as decimal(18, 2)) as spend_usd,
        cast(sum(ledger.interchange_usd) as decimal(18, 2)) as interchange_usd,
        cast(sum(ledger.cash_back_usd) as decimal(18, 2)) as cash_back_usd
    from ledger
    inner join months
        on
            ledger.customer_id = months.customer_id
            and ledger.transaction_month = months.month
    group by ledger.customer_id, months.programme, ledger.category
),

totals as (
    select
        *,
        cast(
            sum(spend_usd) over (partition by customer_id, programme) as decimal(18, 2)
        ) as programme_spend_usd
    from categories
),

final as (
    select
        customer_id,
        programme,
        category,
        spend_usd,
        case
            when programme_spend_usd > 0
                then {{ scale_amount('spend_usd', '100', 'programme_spend_usd') }}
        end as share_pct,
        interchange_usd,
        cash_back_usd,
        cast(interchange_usd - cash_back_usd as decimal(18, 2)) as margin_usd
    from totals
)

select * from final
