{#
    The change columns of every staging model of changes, one below the other: what observability
    counts, whatever the business columns are. Only the batches of this run's window.
#}
{% macro staged_changes(relations) -%}
    {%- set window = realtime_insights.in_window() -%}
    {%- for relation in relations %}
    {{ 'union all' if not loop.first }}
    select
        {{ realtime_insights._change_column_names() | join(',\n        ') }}
    from {{ relation }}
    where {{ window }}
    {%- endfor %}
{%- endmacro %}
