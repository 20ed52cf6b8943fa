{#- Fails for each row whose A is not greater than (`or_equal`: or equal to) its B; a null on either
    side is no failure. -#}
{% test expect_column_pair_values_A_to_be_greater_than_B(
    model, column_A, column_B, or_equal=False, row_condition=None
) %}
select
    {{ column_A }} as value_a,
    {{ column_B }} as value_b
from {{ model }}
where
    ({{ row_condition or "1 = 1" }})
    and not ({{ column_A }} {{ ">=" if or_equal else ">" }} {{ column_B }})
{% endtest %}
