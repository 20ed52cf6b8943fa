{#
    The day up to which the data speak, as a SQL date: what a mart takes for today. It never reads
    the clock, so that the same data give the same marts.
#}
{% macro as_of_date() -%}
    {{ return("cast('" ~ var('as_of_date', '2026-06-30') ~ "' as date)") }}
{%- endmacro %}
