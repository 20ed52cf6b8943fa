with

made as (
    select
        'offer' as kind,
        offer_id,
        title,
        customer_id,
        offer_rank,
        reason,
        value_usd,
        triggered_at
    from {{ ref('personalized_offers') }}
    union all
    select
        'loan' as kind,
        offer_id,
        title,
        customer_id,
        offer_rank,
        reason,
        amount_usd as value_usd,
        triggered_at
    from {{ ref('personalized_loans') }}
),

newest as (
    select
        *,
        row_number() over (
            partition by kind, offer_id order by triggered_at desc, customer_id asc
        ) as place
    from made
),

final as (
    select
        kind,
        title,
        count(*) as customers,
        cast(sum(case when offer_rank = 1 then 1 else 0 end) as bigint) as first_choices,
        cast(sum(value_usd) as decimal(18, 2)) as value_usd,
        max(case when place = 1 then reason end) as newest_reason
    from newest
    group by kind, offer_id, title
)

select * from final
