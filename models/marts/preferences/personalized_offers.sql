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
    select * from {{ ref('offer_catalogue') }}
),

valued as (
    select
        eligible.customer_id,
        eligible.offer_id,
        catalogue.title,
        eligible.reason,
        catalogue.channel,
        catalogue.priority,
        eligible.triggered_at,
        eligible.valid_until_date,
        least(
            greatest(
                {{ scale_amount(
                    'coalesce(measures.value, cast(0 as decimal(18, 2)))',
                    'catalogue.value_pct',
                    '100.00'
                ) }},
                catalogue.value_min_usd
            ),
            catalogue.value_max_usd
        ) as value_usd
    from eligible
    inner join catalogue
        on eligible.offer_id = catalogue.offer_id
    left join measures
        on
            eligible.customer_id = measures.customer_id
            and catalogue.value_measure = measures.measure
            and catalogue.value_subject = measures.subject
),

ranked as (
    select
        *,
        {{ offer_rank('value_usd') }} as offer_rank
    from valued
),

final as (
    select
        customer_id,
        offer_id,
        offer_rank,
        title,
        reason,
        cast(value_usd as decimal(18, 2)) as value_usd,
        channel,
        triggered_at,
        valid_until_date
    from ranked
    where offer_rank <= {{ var('offers_per_customer') }}
)

select * from final
