{#
    A row for each first of a month from `first` to `last`, both dates and both inclusive: an
    expression of a select list that multiplies the rows of its query. `first` must not be later
    than `last`. Cast the result to a date in a query around it.
#}
{% macro month_series(first, last) -%}
    {{ return(adapter.dispatch('month_series', 'realtime_insights')(first, last)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/sequence #}
{% macro default__month_series(first, last) -%}
    explode(sequence({{ first }}, {{ last }}, interval 1 month))
{%- endmacro %}

{% macro duckdb__month_series(first, last) -%}
    unnest(generate_series({{ first }}, {{ last }}, interval 1 month))
{%- endmacro %}
