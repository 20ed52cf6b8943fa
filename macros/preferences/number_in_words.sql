{#
    A decimal(18,2) as people write it, by its unit: `$1,234.50` for usd, `1,234.50 %` for pct, else
    `1,234.50`; whole numbers without `.00`, dollars apart. In text functions that both engines have.
#}
{% macro number_in_words(value, unit) -%}
    {%- set digits = 'cast(abs(' ~ value ~ ') as string)' -%}
    {%- set length = 'length(' ~ digits ~ ')' -%}
    {%- set grouped -%}
        case
            when {{ length }} > 9
                then
                    substr({{ digits }}, 1, {{ length }} - 9)
                    || ',' || substr({{ digits }}, {{ length }} - 8, 3)
                    || ',' || substr({{ digits }}, {{ length }} - 5)
            when {{ length }} > 6
                then
                    substr({{ digits }}, 1, {{ length }} - 6)
                    || ',' || substr({{ digits }}, {{ length }} - 5)
            else {{ digits }}
        end
    {%- endset -%}
    case when {{ value }} < 0 then '-' else '' end
    || case
        when {{ unit }} = 'usd' then '$' || {{ grouped }}
        else replace(
            {{ grouped }} || case when {{ unit }} = 'pct' then ' %' else '' end, '.00', ''
        )
    end
{%- endmacro %}
