{{ recomputed_by_customer(keys=['customer_id', 'month']) }}

with

ledger as (
    select * from {{ ref('cash_back_ledger') }}
    where {{ of_changed_customers() }}
),

enrolments as (
    select * from {{ ref('cash_back_enrolments') }}
    where {{ of_changed_customers() }}
),

terms as (
    select * from {{ ref('cash_back_terms') }}
),

earned as (
    select
        customer_id,
        transaction_month as month,
        cast(count(*) as int) as transactions,
        cast(sum(spend_usd) as decimal(18, 2)) as spend_usd,
        cast(sum(interchange_usd) as decimal(18, 2)) as interchange_usd,
        cast(sum(cash_back_usd) as decimal(18, 2)) as cash_back_usd,
        cast(sum(withheld_by_cap_usd) as decimal(18, 2)) as withheld_by_cap_usd
    from ledger
    group by customer_id, transaction_month
),

enrolment_months as (
    select
        customer_id,
        cast(date_trunc('month', enrolled_at) as date) as first_month,
        least(
            coalesce(cast(date_trunc('month', left_at) as date), {{ as_of_month() }}),
            {{ as_of_month() }}
        ) as last_month
    from enrolments
),

spans as (
    select * from enrolment_months
    where first_month <= last_month
),

enrolled as (
    select
        customer_id,
        {{ month_series('first_month', 'last_month') }} as month
    from spans
),

-- A customer who is enrolled and buys nothing still costs; one who has left may still buy.
customer_months as (
    select
        customer_id,
        cast(month as date) as month
    from enrolled
    union distinct
    select
        customer_id,
        month
    from earned
),

-- The programme of a month is the one at its end: of the enrolments that touch it, the last.
programmes as (
    select
        customer_months.customer_id,
        customer_months.month,
        enrolments.programme,
        min(
            greatest(cast(enrolments.enrolled_at as date), customer_months.month)
        ) over (partition by customer_months.customer_id, customer_months.month) as charged_on_date
    from customer_months
    inner join enrolments
        on
            customer_months.customer_id = enrolments.customer_id
            and customer_months.month + interval 1 month > enrolments.enrolled_at
            and (enrolments.left_at is null or customer_months.month < enrolments.left_at)
    qualify row_number() over (
        partition by customer_months.customer_id, customer_months.month
        order by enrolments.enrolment_number desc
    ) = 1
),

joined as (
    select
        customer_months.customer_id,
        customer_months.month,
        programmes.programme,
        terms.programme_valid_from,
        programmes.charged_on_date,
        coalesce(earned.transactions, 0) as transactions,
        coalesce(earned.spend_usd, 0) as spend_usd,
        coalesce(earned.interchange_usd, 0) as interchange_usd,
        coalesce(earned.cash_back_usd, 0) as cash_back_usd,
        coalesce(earned.withheld_by_cap_usd, 0) as withheld_by_cap_usd,
        coalesce(terms.monthly_fee_usd, 0) as monthly_fee_usd,
        coalesce(terms.monthly_servicing_cost_usd, 0) as servicing_cost_usd
    from customer_months
    left join earned
        on
            customer_months.customer_id = earned.customer_id
            and customer_months.month = earned.month
    left join programmes
        on
            customer_months.customer_id = programmes.customer_id
            and customer_months.month = programmes.month
    left join terms
        on
            programmes.programme = terms.programme
            and customer_months.month >= terms.holds_from_month
            and customer_months.month < terms.holds_to_month
    -- Who leaves in the first moment of a month was not enrolled in it.
    where programmes.programme is not null or earned.transactions is not null
),

final as (
    select
        customer_id,
        month,
        programme,
        programme_valid_from,
        charged_on_date,
        transactions,
        cast(spend_usd as decimal(18, 2)) as spend_usd,
        cast(interchange_usd as decimal(18, 2)) as interchange_usd,
        cast(cash_back_usd as decimal(18, 2)) as cash_back_usd,
        cast(withheld_by_cap_usd as decimal(18, 2)) as withheld_by_cap_usd,
        cast(monthly_fee_usd as decimal(18, 2)) as monthly_fee_usd,
        cast(servicing_cost_usd as decimal(18, 2)) as servicing_cost_usd,
        cast(
            interchange_usd + monthly_fee_usd - cash_back_usd - servicing_cost_usd
            as decimal(18, 2)
        ) as net_usd,
        interchange_usd + monthly_fee_usd - cash_back_usd - servicing_cost_usd < 0 as is_loss,
        month < {{ as_of_month() }} as is_over
    from joined
)

select * from final
