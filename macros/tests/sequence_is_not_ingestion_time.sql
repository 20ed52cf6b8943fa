{#
    Fails where most changes carry the time of their landing as their sequence: such a table is green
    and wrong, because whatever arrives late wins. Looks at up to 10,000 changes.
#}
{% test sequence_is_not_ingestion_time(model) %}
{%- set landed = realtime_insights.epoch_microseconds('_ingested_at') %}
with

changes as (
    select
        cast(_sequence as {{ dbt.type_string() }}) as sequence,
        {{ landed }} as landed,
        cast(_ingested_at as {{ dbt.type_string() }}) as landed_text
    from {{ model }}
    where _reject_reason is null
    limit 10000
)

select
    count(*) as changes,
    min(sequence) as example
from changes
having sum(
    case
        when sequence in (
            cast(landed as {{ dbt.type_string() }}),
            cast(cast(floor(landed / 1000) as bigint) as {{ dbt.type_string() }}),
            cast(cast(floor(landed / 1000000) as bigint) as {{ dbt.type_string() }}),
            landed_text
        ) then 1
        else 0
    end
) * 2 > count(*)
{% endtest %}
