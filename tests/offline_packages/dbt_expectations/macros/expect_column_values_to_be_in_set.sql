{#- Fails for each value that equals none of the set, and for each null: the real test does so too.
    With `quote_values` the set holds texts, without it SQL expressions such as numbers. -#}
{% test expect_column_values_to_be_in_set(
    model, column_name, value_set, quote_values=True, row_condition=None
) %}
{%- if not value_set -%}
    {{ exceptions.raise_compiler_error("give at least one value in value_set") }}
{%- endif -%}
{%- set matches = [] -%}
{%- for value in value_set -%}
    {%- set expected = "cast('" ~ value ~ "' as " ~ dbt.type_string() ~ ")" -%}
    {%- do matches.append(column_name ~ " = " ~ (expected if quote_values else value)) -%}
{%- endfor -%}
select {{ column_name }} as unexpected_value
from {{ model }}
where
    ({{ row_condition or "1 = 1" }})
    and not coalesce({{ matches | join(" or ") }}, false)
{% endtest %}
