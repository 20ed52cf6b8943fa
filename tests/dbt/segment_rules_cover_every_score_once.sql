-- Every value has one score and every combination of scores one segment, whatever the seeds are
-- changed to: so every customer is in exactly one segment.
with

bounds as (
    select * from {{ ref('segment_score_bounds') }}
),

-- Every measure has bounds, from zero on: none is ever below.
measures as (
    select 'recency_days' as measure
    union all
    select 'purchases' as measure
    union all
    select 'spend_usd' as measure
),

open_measures as (
    select
        measures.measure,
        min(bounds.lower_bound) as least_bound
    from measures
    left join bounds
        on measures.measure = bounds.measure
    group by measures.measure
),

combinations as (
    select
        recency.score as recency_score,
        frequency.score as purchases_score,
        monetary.score as spend_score
    from bounds as recency
    cross join bounds as frequency
    cross join bounds as monetary
    where
        recency.measure = 'recency_days'
        and frequency.measure = 'purchases'
        and monetary.measure = 'spend_usd'
),

fits as (
    select
        combinations.recency_score,
        combinations.purchases_score,
        combinations.spend_score,
        count(rules.rule) as rules
    from combinations
    left join {{ ref('segment_rules') }} as rules
        on
            combinations.recency_score between rules.min_recency_score and rules.max_recency_score
            and combinations.purchases_score
            between rules.min_purchases_score and rules.max_purchases_score
            and combinations.spend_score between rules.min_spend_score and rules.max_spend_score
    group by
        combinations.recency_score, combinations.purchases_score, combinations.spend_score
)

select 'the least bound of ' || measure || ' is not 0' as failure
from open_measures
where least_bound is distinct from 0
union all
select
    'scores ' || cast(recency_score as string) || ' ' || cast(purchases_score as string) || ' '
    || cast(spend_score as string) || ' fit ' || cast(rules as string) || ' rules' as failure
from fits
where rules <> 1
