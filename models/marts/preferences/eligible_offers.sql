{{ recomputed_by_customer(keys=['customer_id', 'offer_id']) }}

with

measures as (
    select * from {{ ref('customer_measures') }}
    where {{ of_changed_customers() }}
),

rules as (
    select * from {{ ref('offer_rules') }}
),

words as (
    select * from {{ ref('offer_measures') }}
),

on_sale as (
    select
        offer_id,
        valid_to,
        valid_days
    from {{ ref('offer_catalogue') }}
    where
        valid_from <= {{ as_of_date() }}
        and coalesce(valid_to, date '9999-01-01') > {{ as_of_date() }}
    union all
    select
        offer_id,
        valid_to,
        valid_days
    from {{ ref('loan_catalogue') }}
    where
        valid_from <= {{ as_of_date() }}
        and coalesce(valid_to, date '9999-01-01') > {{ as_of_date() }}
),

-- The rules of `*` are rules of every offer. Where nothing was measured, an eligibility rule is
-- judged on the measure's value if absent; a trigger does not hold.
offer_rules as (
    select
        on_sale.offer_id,
        on_sale.valid_to,
        on_sale.valid_days,
        rules.role,
        rules.measure,
        rules.subject,
        rules.comparison,
        rules.threshold,
        rules.reason_number,
        coalesce(own.unit, rest.unit) as unit,
        coalesce(own.sentence, rest.sentence) as sentence,
        rules.role = 'eligibility'
        and {{ comparison_holds(
            'coalesce(own.value_if_absent, rest.value_if_absent)',
            'rules.comparison',
            'rules.threshold'
        ) }} as holds_if_absent
    from on_sale
    inner join rules
        on rules.offer_id in (on_sale.offer_id, '*')
    left join words as own
        on rules.measure = own.measure and rules.subject = own.subject
    left join words as rest
        on rules.measure = rest.measure and rest.subject = '*'
),

needed as (
    select
        offer_id,
        sum(case when holds_if_absent then 0 else 1 end) as rules
    from offer_rules
    group by offer_id
),

judged as (
    select
        measures.customer_id,
        offer_rules.offer_id,
        offer_rules.valid_to,
        offer_rules.valid_days,
        offer_rules.role,
        offer_rules.reason_number,
        offer_rules.unit,
        offer_rules.sentence,
        offer_rules.holds_if_absent,
        measures.subject,
        measures.value,
        measures.value_before,
        measures.value_after,
        measures.since_at,
        measures.measured_at,
        {{ comparison_holds(
            'measures.value', 'offer_rules.comparison', 'offer_rules.threshold'
        ) }} as holds
    from measures
    inner join offer_rules
        on measures.measure = offer_rules.measure and measures.subject = offer_rules.subject
),

-- All rules hold: none that was measured is broken, and none is missing that had to be measured.
earned as (
    select
        judged.customer_id,
        judged.offer_id,
        max(judged.valid_to) as valid_to,
        max(judged.valid_days) as valid_days,
        max(case when judged.role = 'trigger' then judged.measured_at end) as triggered_at
    from judged
    inner join needed
        on judged.offer_id = needed.offer_id
    group by judged.customer_id, judged.offer_id
    having
        sum(case when judged.holds then 0 else 1 end) = 0
        and sum(case when judged.holds_if_absent then 0 else 1 end) = max(needed.rules)
),

dated as (
    select
        customer_id,
        offer_id,
        triggered_at,
        least(
            {{ add_days('cast(triggered_at as date)', 'valid_days') }},
            {{ add_days("coalesce(valid_to, date '9999-01-01')", '-1') }}
        ) as valid_until_date
    from earned
    where triggered_at is not null
),

valid as (
    select * from dated
    where valid_until_date >= {{ as_of_date() }}
),

written as (
    select
        judged.customer_id,
        judged.offer_id,
        judged.reason_number,
        replace(
            replace(
                replace(
                    replace(
                        replace(
                            judged.sentence,
                            '{value}',
                            {{ number_in_words('judged.value', 'judged.unit') }}
                        ),
                        '{before}',
                        coalesce({{ number_in_words('judged.value_before', 'judged.unit') }}, '')
                    ),
                    '{after}',
                    coalesce({{ number_in_words('judged.value_after', 'judged.unit') }}, '')
                ),
                '{since}', coalesce({{ day_in_words('judged.since_at') }}, '')
            ),
            '{subject}', judged.subject
        ) as sentence
    from judged
    inner join valid
        on judged.customer_id = valid.customer_id and judged.offer_id = valid.offer_id
    where judged.reason_number is not null and judged.holds
),

reasons as (
    select
        customer_id,
        offer_id,
        concat_ws(
            '; ',
            max(case when reason_number = 1 then sentence end),
            max(case when reason_number = 2 then sentence end),
            max(case when reason_number = 3 then sentence end)
        ) as reason
    from written
    group by customer_id, offer_id
),

final as (
    select
        valid.customer_id,
        valid.offer_id,
        reasons.reason,
        valid.triggered_at,
        valid.valid_until_date
    from valid
    inner join reasons
        on valid.customer_id = reasons.customer_id and valid.offer_id = reasons.offer_id
)

select * from final
