with

ledger as (
    select * from {{ ref('cash_back_ledger') }}
),

enrolments as (
    select * from {{ ref('cash_back_enrolments') }}
),

programmes as (
    select * from {{ ref('cash_back_programmes') }}
),

-- The months in which the bank's customers used their cards.
months as (
    select distinct transaction_month as month
    from ledger
),

-- The programme of a month is the one at its end: of the enrolments that touch it, the last.
enrolled_months as (
    select
        enrolments.customer_id,
        months.month,
        enrolments.programme
    from enrolments
    inner join months
        on
            cast(date_trunc('month', enrolments.enrolled_at) as date) <= months.month
            and (enrolments.left_at is null or cast(enrolments.left_at as date) > months.month)
    qualify row_number() over (
        partition by enrolments.customer_id, months.month order by enrolments.enrolled_at desc
    ) = 1
),

earned as (
    select
        customer_id,
        transaction_month as month,
        sum(spend_usd) as spend_usd,
        sum(interchange_usd) as interchange_usd,
        sum(cash_back_usd) as cash_back_usd
    from ledger
    group by customer_id, transaction_month
),

-- Also months without a transaction, and transactions after the customer left.
customer_months as (
    select
        customer_id,
        month
    from enrolled_months
    union distinct
    select
        customer_id,
        month
    from earned
),

joined as (
    select
        customer_months.customer_id,
        customer_months.month,
        enrolled_months.programme,
        coalesce(earned.spend_usd, 0) as spend_usd,
        coalesce(earned.interchange_usd, 0) as interchange_usd,
        coalesce(earned.cash_back_usd, 0) as cash_back_usd,
        coalesce(programmes.monthly_fee_usd, 0) as monthly_fee_usd,
        coalesce(programmes.monthly_servicing_cost_usd, 0) as servicing_cost_usd
    from customer_months
    left join enrolled_months
        on
            customer_months.customer_id = enrolled_months.customer_id
            and customer_months.month = enrolled_months.month
    left join earned
        on
            customer_months.customer_id = earned.customer_id
            and customer_months.month = earned.month
    left join programmes
        on
            enrolled_months.programme = programmes.programme
            and customer_months.month >= programmes.valid_from
            and customer_months.month < coalesce(programmes.valid_to, date '9999-01-01')
),

final as (
    select
        customer_id,
        month,
        programme,
        cast(spend_usd as decimal(18, 2)) as spend_usd,
        cast(interchange_usd as decimal(18, 2)) as interchange_usd,
        cast(cash_back_usd as decimal(18, 2)) as cash_back_usd,
        cast(monthly_fee_usd as decimal(18, 2)) as monthly_fee_usd,
        cast(servicing_cost_usd as decimal(18, 2)) as servicing_cost_usd,
        cast(
            interchange_usd + monthly_fee_usd - cash_back_usd - servicing_cost_usd
            as decimal(18, 2)
        ) as net_usd,
        interchange_usd + monthly_fee_usd - cash_back_usd - servicing_cost_usd < 0 as is_loss
    from joined
)

select * from final
