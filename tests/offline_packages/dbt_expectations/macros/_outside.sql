{#- True where the expression lies outside its bounds; unknown, so no failure, where it is null. -#}
{% macro _outside(expression, min_value, max_value, strictly) %}
    {%- if min_value is none and max_value is none -%}
        {{ exceptions.raise_compiler_error("give a min_value, a max_value, or both") }}
    {%- endif -%}
    {%- set or_equal = "=" if strictly else "" -%}
    {%- set violations = [] -%}
    {%- if min_value is not none -%}
        {%- do violations.append(expression ~ " <" ~ or_equal ~ " " ~ min_value) -%}
    {%- endif -%}
    {%- if max_value is not none -%}
        {%- do violations.append(expression ~ " >" ~ or_equal ~ " " ~ max_value) -%}
    {%- endif -%}
    ({{ violations | join(" or ") }})
{%- endmacro %}
