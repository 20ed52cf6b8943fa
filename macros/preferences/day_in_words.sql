{#
    A date as people write it, `12 May 2026`. Format strings differ between engines; this needs none.
#}
{% macro day_in_words(date) -%}
    cast(extract(day from {{ date }}) as string)
    || ' '
    || trim(
        substr(
            'January  February March    April    May      June     July     August   September'
            || 'October  November December ',
            cast(9 * extract(month from {{ date }}) - 8 as int),
            9
        )
    )
    || ' '
    || cast(extract(year from {{ date }}) as string)
{%- endmacro %}
