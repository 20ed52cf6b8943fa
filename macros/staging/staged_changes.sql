{#
    The change columns of every staging model of changes, one below the other: what observability
    counts, whatever the business columns are. Only the batches of this run's window. Beside them
    `_stops_feed`: whether the record breaks an expectation that stops its feed.
#}
{% macro staged_changes(relations) -%}
    {%- set window = realtime_insights.in_window() -%}
    {%- for relation in relations %}
    {%- set node = realtime_insights._staging_node(relation) if execute %}
    {{ 'union all' if not loop.first }}
    select
        {{ realtime_insights._change_column_names() | join(',\n        ') }},
        {{ realtime_insights._breaks_one_of(realtime_insights._stopping_rules(node)) if node else 'false' }} as _stops_feed
    from {{ relation }}
    where {{ window }}
    {%- endfor %}
{%- endmacro %}
