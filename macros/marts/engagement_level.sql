{#
    LOW, MEDIUM or HIGH from a number of online transactions: the definition of the published
    reference. Nothing known counts as LOW.
#}
{% macro engagement_level(number_of_online_txns) -%}
    case
        when {{ number_of_online_txns }} > 10 then 'HIGH'
        when {{ number_of_online_txns }} > 2 then 'MEDIUM'
        else 'LOW'
    end
{%- endmacro %}
