{#
    A value as a text literal, whatever it holds: no value ever becomes SQL.
#}
{% macro text_literal(value) -%}
    {{ return(adapter.dispatch('text_literal', 'realtime_insights')(value | string)) }}
{%- endmacro %}

{# Two adjacent literals are one there, so that a doubled quote is no quote; a backslash escapes.
   https://docs.databricks.com/aws/en/sql/language-manual/data-types/string-type #}
{% macro default__text_literal(value) -%}
    {{ return("'" ~ value | replace('\\', '\\\\') | replace("'", "\\'") ~ "'") }}
{%- endmacro %}

{# https://duckdb.org/docs/stable/sql/data_types/literal_types #}
{% macro duckdb__text_literal(value) -%}
    {{ return("'" ~ value | replace("'", "''") ~ "'") }}
{%- endmacro %}
