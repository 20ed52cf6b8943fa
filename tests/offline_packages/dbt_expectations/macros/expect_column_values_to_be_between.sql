{#- Fails for each value outside the bounds (`strictly`: or on one); a null is no failure. -#}
{% test expect_column_values_to_be_between(
    model, column_name, min_value=None, max_value=None, row_condition=None, strictly=False
) %}
select {{ column_name }} as unexpected_value
from {{ model }}
where
    ({{ row_condition or "1 = 1" }})
    and {{ dbt_expectations._outside(column_name, min_value, max_value, strictly) }}
{% endtest %}
