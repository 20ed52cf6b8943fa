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
        value,
        cast(source_timestamp as timestamp) as _source_timestamp,
        cast(ingested_at as timestamp) as _ingested_at
{%- endmacro %}

{#
    CTEs that type every field of `image` and say why a record cannot be used, if so: the first
    failing check, then a key that is missing, then a field that is not of its type, then a missing
    sequence. Such a record stays in the view, with its reason, and silver leaves it out.

    unless_key   a condition under which only the key columns are read (a delete's image)
    large        as in `debezium_changes`
#}
{% macro _typed_and_checked(relation, columns, keys, checks, unless_key=none, large=[]) -%}
typed as (
    select
        *,
        {%- for name, type in columns.items() %}
        {% if unless_key and name not in keys -%}
        case when not {{ unless_key }} then {{ realtime_insights.typed('image.' ~ adapter.quote(name), type) }} end
        {%- else -%}
        {{ realtime_insights.typed('image.' ~ adapter.quote(name), type) }}
        {%- endif %} as {{ adapter.quote(name) }}{{ ',' if not loop.last or large }}
        {%- endfor %}
        {%- for name in large %}
        coalesce(image.{{ adapter.quote(name) }} <> {{ realtime_insights.unavailable_value() }}, true)
            as _has_{{ name }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ relation }}
),

checked as (
    select
        *,
        case
            {%- for condition, reason in checks %}
            when {{ condition }} then '{{ reason }}'
            {%- endfor %}
            {%- for name in keys %}
            when image.{{ adapter.quote(name) }} is null then 'key {{ name }} is missing'
            {%- endfor %}
            {%- for name, type in columns.items() if type == 'string' and name not in large and unless_key %}
            when image.{{ adapter.quote(name) }} = {{ realtime_insights.unavailable_value() }}
                then '{{ name }} is an unchanged large value: list it in large'
            {%- endfor %}
            {%- for name, type in columns.items() if type != 'string' %}
            when {{ realtime_insights.is_not_typed(
                'image.' ~ adapter.quote(name), adapter.quote(name), type
            ) }}
                {%- if unless_key and name not in keys %} and not {{ unless_key }}{% endif %}
                then '{{ name }} is not of type {{ type }}'
            {%- endfor %}
            when _sequence is null then 'the sequence is missing'
        end as _reject_reason
    from typed
),

explained as (
    select
        *,
        case when _reject_reason is not null then value end as _rejected_value
    from checked
)

select
    {%- for name in columns %}
    {{ adapter.quote(name) }},
    {%- endfor %}
    {%- for name in large %}
    _has_{{ name }},
    {%- endfor %}
    {{ realtime_insights.change_columns() }}
from explained
{%- endmacro %}
