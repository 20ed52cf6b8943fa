{#
    A text value as the type that a column spec names; NULL where it is not one.
#}
{% macro typed(text, type) -%}
    {%- if type == 'timestamp' -%} {{ realtime_insights.source_timestamp(text) }}
    {%- elif type == 'date' -%} {{ realtime_insights.source_date(text) }}
    {%- elif type == 'string' -%} nullif({{ text }}, {{ realtime_insights.unavailable_value() }})
    {%- else -%} try_cast({{ text }} as {{ type }})
    {%- endif -%}
{%- endmacro %}

{#
    True where there is a text that is no such value, or has more decimal places than the type
    keeps: a cast alone would round it. (Counted in the text: comparing with a cast to a wider decimal
    took DuckDB 17 microseconds a value.)
#}
{% macro is_not_typed(text, value, type) -%}
    {{ text }} is not null and (
        {{ value }} is null
        {%- if type in ('int', 'bigint') or type.startswith('decimal') %}
        {%- set places = type.rstrip(')').split(',')[1] | int if ',' in type else 0 %}
        or length(rtrim(split_part({{ text }}, '.', 2), '0')) > {{ places }}
        {%- endif %}
    )
{%- endmacro %}

{# What Debezium writes for a large column that an update did not change. #}
{% macro unavailable_value() -%} {{ return("'__debezium_unavailable_value'") }} {%- endmacro %}
