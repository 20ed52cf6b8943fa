{#- Fails once where the number of rows is outside the bounds (`strictly`: or on one), or once for
    each such group of `group_by`. A group without rows is not seen. -#}
{% test expect_table_row_count_to_be_between(
    model, min_value=None, max_value=None, group_by=None, row_condition=None, strictly=False
) %}
select
    {% for column in group_by or [] -%}
    {{ column }},
    {% endfor -%}
    count(*) as n_records
from {{ model }}
where ({{ row_condition or "1 = 1" }})
{%- if group_by %}
group by {{ group_by | join(", ") }}
{%- endif %}
having {{ dbt_expectations._outside("count(*)", min_value, max_value, strictly) }}
{% endtest %}
