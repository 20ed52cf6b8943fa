{#
    The place of an offer among those of its customer: by the catalogue's priority, then by what it is
    worth, then the one whose trigger is newest. Needs the columns `priority`, `triggered_at`,
    `offer_id`.
#}
{% macro offer_rank(worth) -%}
    cast(
        row_number() over (
            partition by customer_id
            order by priority asc, {{ worth }} desc, triggered_at desc, offer_id asc
        ) as int
    )
{%- endmacro %}
