{#
    dbt run-operation purge_tombstones --args '{older_than_days: 90, table: customers_state}'

    Removes the tombstones of deletes that happened longer ago than that from current tables, and
    reports how many went and what can no longer be told. Without `table` from all current tables.
    Without `older_than_days` the variable `tombstone_retention_days` counts; where that is not set,
    as by default, tombstones are kept for ever. Histories keep their deletes: they are history.
#}
{% macro purge_tombstones(older_than_days=none, table=none) -%}
    {%- if execute -%}
        {%- set days = older_than_days if older_than_days is not none else var('tombstone_retention_days', none) -%}
        {%- if days is none -%}
            {%- do print('Nothing purged: tombstones are kept for ever, as neither older_than_days nor the variable tombstone_retention_days is set.') -%}
            {{ return('') }}
        {%- endif -%}
        {%- set cutoff = modules.datetime.datetime.now(modules.pytz.utc).replace(tzinfo=none)
            - modules.datetime.timedelta(days=days | int) -%}
        {%- set cutoff = cutoff.strftime('%Y-%m-%d %H:%M:%S') -%}
        {%- for node in realtime_insights._cdc_nodes(table, 'current')
                if load_relation(realtime_insights._relation_of(node)) -%}
            {%- set relation = realtime_insights._relation_of(node) -%}
            {%- set condition = '_is_deleted and ' ~ adapter.quote(node.config.meta.cdc['keys'][0])
                ~ " is not null and _changed_at < cast('" ~ cutoff ~ "' as timestamp)" -%}
            {%- set removed = run_query('select count(*) from ' ~ relation ~ ' where ' ~ condition).rows[0][0] | int -%}
            {%- set kept = run_query('select count(*) from ' ~ relation ~ ' where _is_deleted and '
                ~ adapter.quote(node.config.meta.cdc['keys'][0]) ~ ' is not null').rows[0][0] | int - removed -%}
            {%- if removed -%}
                {%- call statement('purge', auto_begin=true) -%} delete from {{ relation }} where {{ condition }} {%- endcall -%}
                {%- do adapter.commit() -%}
                {%- do print(
                    node.name ~ ': ' ~ removed ~ ' tombstones of deletes before ' ~ cutoff ~ ' UTC removed, ' ~ kept
                    ~ ' kept. A change of one of these keys that is made before its delete and arrives from now on, that is '
                    ~ days ~ ' days late or more, brings the key back.'
                ) -%}
            {%- else -%}
                {%- do print(node.name ~ ': no tombstone of a delete before ' ~ cutoff ~ ' UTC, ' ~ kept ~ ' kept.') -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}

{# The nodes of CDC tables, of one kind or all; one that is asked for by name must be there. #}
{% macro _cdc_nodes(name=none, kind=none) -%}
    {%- set found = [] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.config.meta.get('cdc') -%}
        {%- if (name is none or node.name == name) and (kind is none or node.config.meta.cdc.kind == kind) -%}
            {%- do found.append(node) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if name is not none and not found -%}
        {%- do exceptions.raise_compiler_error(
            name ~ ' is no ' ~ ((kind ~ ' ') if kind else '') ~ 'table that cdc_current or cdc_history makes'
        ) -%}
    {%- endif -%}
    {{ return(found | sort(attribute='name')) }}
{%- endmacro %}

{% macro _relation_of(node) -%}
    {{ return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) }}
{%- endmacro %}
