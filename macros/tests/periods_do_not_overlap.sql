{# Fails with the periods of one key that overlap another: `valid_from` inclusive, `valid_to`
   exclusive, NULL while open. #}
{% test periods_do_not_overlap(model, keys, valid_from='valid_from', valid_to='valid_to') %}
with

followed as (
    select
        {{ keys | join(', ') }},
        {{ valid_from }} as period_from,
        {{ valid_to }} as period_to,
        lead({{ valid_from }}) over (
            partition by {{ keys | join(', ') }} order by {{ valid_from }}
        ) as next_from
    from {{ model }}
)

select *
from followed
where
    period_to <= period_from
    or next_from < period_to
    or (period_to is null and next_from is not null)
{% endtest %}
