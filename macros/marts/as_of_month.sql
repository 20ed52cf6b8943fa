{#
    The first day of the month of `as_of_date()`. A mart that needs no more is not computed whole each
    day, only when a month begins.
#}
{% macro as_of_month() -%}
    {{ return(modules.re.sub("-[0-9]{2}'", "-01'", as_of_date())) }}
{%- endmacro %}
