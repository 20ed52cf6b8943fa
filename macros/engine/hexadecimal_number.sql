{# The number, as bigint, that at most 15 hexadecimal digits are. #}
{% macro hexadecimal_number(digits) -%}
    {{ return(adapter.dispatch('hexadecimal_number', 'realtime_insights')(digits)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/conv #}
{% macro default__hexadecimal_number(digits) -%}
    {{ return('cast(conv(' ~ digits ~ ', 16, 10) as bigint)') }}
{%- endmacro %}

{# https://duckdb.org/docs/stable/sql/data_types/literal_types #}
{% macro duckdb__hexadecimal_number(digits) -%}
    {{ return("cast('0x' || " ~ digits ~ ' as bigint)') }}
{%- endmacro %}
