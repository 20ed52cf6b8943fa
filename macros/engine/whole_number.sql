{#
    A text as a whole number of `type` (int, bigint); NULL where it is none. Decimals, as "3.0" of a
    source that has but one type of number, are rounded: `is_not_typed` tells.
#}
{% macro whole_number(text, type) -%}
    {{ return(adapter.dispatch('whole_number', 'realtime_insights')(text, type)) }}
{%- endmacro %}

{# A text with a point is no whole number here, whatever follows it.
   https://docs.databricks.com/aws/en/sql/language-manual/functions/cast #}
{% macro default__whole_number(text, type) -%}
    {{ return('try_cast(try_cast(' ~ text ~ ' as decimal(38, 9)) as ' ~ type ~ ')') }}
{%- endmacro %}

{% macro duckdb__whole_number(text, type) -%}
    {{ return('try_cast(' ~ text ~ ' as ' ~ type ~ ')') }}
{%- endmacro %}
