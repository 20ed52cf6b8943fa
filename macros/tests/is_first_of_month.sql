{# Fails with the dates that are not the first day of a month. #}
{% test is_first_of_month(model, column_name) %}
select {{ column_name }}
from {{ model }}
where extract(day from {{ column_name }}) <> 1
{% endtest %}
