{#
    Whether a value satisfies a rule, as a boolean: the one place that knows what the words of a
    rule's `comparison` mean. False for a NULL value and for a word that is not known.
#}
{% macro comparison_holds(value, comparison, threshold) -%}
    coalesce(
        case {{ comparison }}
            when 'equals' then {{ value }} = {{ threshold }}
            when 'differs_from' then {{ value }} <> {{ threshold }}
            when 'at_least' then {{ value }} >= {{ threshold }}
            when 'at_most' then {{ value }} <= {{ threshold }}
            when 'more_than' then {{ value }} > {{ threshold }}
            when 'less_than' then {{ value }} < {{ threshold }}
        end,
        false
    )
{%- endmacro %}
