{#- Fails for each combination of values that more than one row has. Nulls count as equal; rows are
    left out where all of the columns, or any of them (see `ignore_row_if`), are null. -#}
{% test expect_compound_columns_to_be_unique(
    model, column_list, quote_columns=False, ignore_row_if="all_values_are_missing",
    row_condition=None
) %}
{%- set glue = {"all_values_are_missing": " and ", "any_value_is_missing": " or "} -%}
{%- if not column_list or ignore_row_if not in glue -%}
    {{ exceptions.raise_compiler_error(
        "give columns in column_list, and ignore_row_if as one of " ~ glue.keys() | join(", ")
    ) }}
{%- endif -%}
{%- set keys = [] -%}
{%- set missing = [] -%}
{%- for column in column_list -%}
    {%- set key = adapter.quote(column) if quote_columns else column -%}
    {%- do keys.append(key) -%}
    {%- do missing.append(key ~ " is null") -%}
{%- endfor -%}
select
    {{ keys | join(", ") }},
    count(*) as n_records
from {{ model }}
where
    ({{ row_condition or "1 = 1" }})
    and not ({{ missing | join(glue[ignore_row_if]) }})
group by {{ keys | join(", ") }}
having count(*) > 1
{% endtest %}
