{{ recomputed_by_customer(keys=['customer_id', 'offer_id']) }}

with

eligible as (
    select * from {{ ref('eligible_offers') }}
    where {{ of_changed_customers() }}
),

measures as (
    select * from {{ ref('customer_measures') }}
    where {{ of_changed_customers() }}
),

catalogue as (
    select * from {{ ref('loan_catalogue') }}
),

-- The instalment that the customer can carry, and the sum that it repays over the term.
affordable as (
    select
        eligible.*,
        catalogue.title,
        catalogue.product,
        catalogue.channel,
        catalogue.priority,
        catalogue.annual_rate_pct,
        catalogue.term_months,
        catalogue.principal_per_instalment,
        catalogue.min_amount_usd,
        catalogue.max_amount_usd,
        {{ scale_amount('measures.value', 'catalogue.instalment_pct', '100.00') }}
            as affordable_instalment_usd
    from eligible
    inner join catalogue
        on eligible.offer_id = catalogue.offer_id
    inner join measures
        on
            eligible.customer_id = measures.customer_id
            and catalogue.instalment_measure = measures.measure
            and catalogue.instalment_subject = measures.subject
),

limited as (
    select
        *,
        least(
            {{ scale_amount('affordable_instalment_usd', 'principal_per_instalment', '1') }},
            max_amount_usd
        ) as limit_usd
    from affordable
),

-- In hundreds of dollars, rounded down.
sized as (
    select
        *,
        cast(limit_usd - limit_usd % 100 as decimal(18, 2)) as amount_usd
    from limited
    where limit_usd >= min_amount_usd
),

repaid as (
    select
        *,
        {{ scale_amount('amount_usd', '1', 'principal_per_instalment') }} as instalment_usd
    from sized
),

ranked as (
    select
        *,
        cast(instalment_usd * term_months - amount_usd as decimal(18, 2)) as value_usd,
        {{ offer_rank('amount_usd') }} as offer_rank
    from repaid
),

final as (
    select
        customer_id,
        offer_id,
        offer_rank,
        title,
        reason,
        product,
        amount_usd,
        cast(annual_rate_pct as decimal(5, 2)) as annual_rate_pct,
        cast(term_months as int) as term_months,
        instalment_usd,
        value_usd,
        channel,
        triggered_at,
        valid_until_date
    from ranked
    where offer_rank <= {{ var('loan_offers_per_customer') }}
)

select * from final
