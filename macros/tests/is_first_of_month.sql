{# Fails with the dates that are not the first day of a month. #}
{% test is_first_of_month(model, column_name) %}
select {{ column_name }}
from {{ model }}
where {{ column_name }} <> cast(date_trunc('month', {{ column_name }}) as date)
{% endtest %}
