{#
    The columns that every staging model of changes ends with, as silver reads them. Documented once
    in models/staging/_change_columns.md. Here the expectations of the model are judged, on the
    columns of what its last SELECT reads.
#}
{% macro change_columns() -%}
    {%- set rules = realtime_insights.expectations_of(model) -%}
    {%- set judged = realtime_insights._judged_columns(rules) if rules else {} -%}
    {%- for name in realtime_insights._change_column_names() %}
    {{- judged[name] ~ ' as ' if name in judged and judged[name] != name }}{{ name }}{{ ',\n    ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{% macro _change_column_names() -%}
    {{ return([
        '_op', '_is_deleted', '_sequence', '_changed_at', '_reject_reason', '_broken_rules',
        '_rejected_value', '_feed', 'batch_id', '_source', '_partition', '_position', '_source_timestamp', '_ingested_at',
    ]) }}
{%- endmacro %}

{# Where a record stands in bronze; (feed, source, partition, position) is unique. #}
{% macro _bronze_address(feed) -%}
    '{{ feed }}' as _feed,
        batch_id,
        source as _source,
        {{ adapter.quote('partition') }} as _partition,
        {{ adapter.quote('position') }} as _position,
        value as _value,
        cast(source_timestamp as timestamp) as _source_timestamp,
        cast(ingested_at as timestamp) as _ingested_at
{%- endmacro %}
