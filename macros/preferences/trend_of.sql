{#
    Counts of the last 30 days against the 30-day average of the last 90: `rising` or `falling` where
    they differ from it by the variable `trend_change_pct` or more, else `steady`; NULL where nothing
    was counted in 90 days. In whole numbers.
#}
{% macro trend_of(count_30d, count_90d) -%}
    case
        when {{ count_90d }} = 0 then null
        when 300 * {{ count_30d }} >= (100 + {{ var('trend_change_pct') }}) * {{ count_90d }}
            then 'rising'
        when 300 * {{ count_30d }} <= (100 - {{ var('trend_change_pct') }}) * {{ count_90d }}
            then 'falling'
        else 'steady'
    end
{%- endmacro %}
