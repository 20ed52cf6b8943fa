{#
    The columns that every staging model of changes ends with, as silver reads them. Documented once
    in models/staging/_change_columns.md.
#}
{% macro change_columns() -%}
    {{ realtime_insights._change_column_names() | join(',\n    ') }}
{%- endmacro %}

{% macro _change_column_names() -%}
    {{ return([
        '_op', '_is_deleted', '_sequence', '_changed_at', '_reject_reason', '_rejected_value',
        '_feed', 'batch_id', '_source', '_partition', '_position', '_source_timestamp', '_ingested_at',
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
