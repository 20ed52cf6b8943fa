{#
    dbt run-operation govern --vars '{governance: true, personal_data_readers: bank_personal_data}'

    Brings to the catalog, after every deployment, what is no part of a table's rows: the functions
    that mask personal data, tags and masks on every table that stands, primary and foreign keys (the
    `constraints` of the YAML beside the models; Unity Catalog does not enforce them), the use of
    schemas for `readers`, predictive optimisation. Whatever is set already is set again, to the same.

    Refused where the user who runs dbt is no member of the group that may see personal data: the
    models would read what the masks show, and write it back.
#}
{% macro govern() -%}
    {%- if execute -%}
        {%- if not var('governance', false) -%}
            {%- do exceptions.raise_compiler_error(
                "govern: the variable governance is not true. Fix: --vars '{governance: true}'."
            ) -%}
        {%- endif -%}
        {{ adapter.dispatch('govern', 'realtime_insights')() }}
    {%- endif -%}
{%- endmacro %}

{% macro default__govern() -%}
    {%- do exceptions.raise_compiler_error('govern: this engine has no catalog that governs') -%}
{%- endmacro %}

{% macro databricks__govern() -%}
    {%- set group = var('personal_data_readers', none) -%}
    {%- if group -%}
        {%- set member = run_query("select is_account_group_member('" ~ group ~ "')").rows[0][0] -%}
        {%- if not member -%}
            {%- do exceptions.raise_compiler_error(
                'govern: whoever runs dbt is no member of ' ~ group ~ ' and would write masked values back.'
                ~ ' Nothing was changed. Fix: add the service principal to the group.'
            ) -%}
        {%- endif -%}
        {%- do adapter.create_schema(realtime_insights.mask_function('name').without_identifier()) -%}
        {%- for kind, how in realtime_insights.personal_data_kinds().items() -%}
            {%- do run_query(
                'create or replace function ' ~ realtime_insights.mask_function(kind) ~ '(value ' ~ how.type
                ~ ') returns ' ~ how.type ~ " return case when is_account_group_member('" ~ group
                ~ "') then value else " ~ how.masked ~ ' end'
            ) -%}
        {%- endfor -%}
    {%- endif -%}

    {%- set tables = [] -%}
    {%- for node in graph.nodes.values() | sort(attribute='name')
            if node.resource_type == 'model' and node.config.materialized in ['table', 'incremental']
            and load_relation(realtime_insights._relation_of(node)) -%}
        {%- do tables.append(node) -%}
    {%- endfor -%}
    {%- set statements = [] -%}
    {%- for node in tables -%}
        {%- do statements.extend(
            realtime_insights.personal_data_statements(node, realtime_insights._relation_of(node))
        ) -%}
    {%- endfor -%}
    {%- do statements.extend(realtime_insights._key_statements(tables)) -%}
    {%- for layer in ['silver', 'marts'] -%}
        {%- set schema = realtime_insights.run_state_relation('any').incorporate(
            path={'schema': generate_schema_name(layer, none)}
        ).without_identifier() -%}
        {%- if var('readers', []) -%} {%- do adapter.create_schema(schema) -%} {%- endif -%}
        {%- for reader in var('readers', []) -%}
            {%- do statements.append('grant use schema on schema ' ~ schema ~ ' to ' ~ adapter.quote(reader)) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- for schema in tables | map(attribute='schema') | unique | sort -%}
        {%- do statements.append(
            'alter schema ' ~ adapter.quote(target.database) ~ '.' ~ adapter.quote(schema)
            ~ ' enable predictive optimization'
        ) -%}
    {%- endfor -%}
    {%- for statement in statements -%} {%- do run_query(statement) -%} {%- endfor -%}
    {%- do print('govern: ' ~ statements | length ~ ' statements on ' ~ tables | length ~ ' tables.') -%}
{%- endmacro %}

{#
    The keys of the tables that are changed in place. A table that every run replaces loses its keys
    with every run: its YAML names none. Foreign keys go before and come after the primary keys that
    they need. The YAML says `expression: model (columns)` and not `to: ref(...)`, which would make one
    table wait for the other. https://docs.databricks.com/aws/en/tables/constraints
#}
{% macro _key_statements(tables) -%}
    {%- set dropped = [] -%}
    {%- set primary = [] -%}
    {%- set foreign = [] -%}
    {%- for node in tables if node.config.materialized == 'incremental' -%}
        {%- set altered = 'alter table ' ~ realtime_insights._relation_of(node) -%}
        {%- for constraint in node.constraints -%}
            {%- set columns = [] -%}
            {%- for column in constraint.columns -%} {%- do columns.append(adapter.quote(column)) -%} {%- endfor -%}
            {%- if constraint.type == 'primary_key' -%}
                {%- do dropped.append(altered ~ ' drop constraint if exists ' ~ node.name ~ '_key cascade') -%}
                {%- for column in columns -%}
                    {%- do primary.append(altered ~ ' alter column ' ~ column ~ ' set not null') -%}
                {%- endfor -%}
                {%- do primary.append(
                    altered ~ ' add constraint ' ~ node.name ~ '_key primary key (' ~ columns | join(', ') ~ ')'
                ) -%}
            {%- elif constraint.type == 'foreign_key' -%}
                {%- set name = node.name ~ '_' ~ constraint.columns | join('_') -%}
                {%- set parent = graph.nodes['model.' ~ node.package_name ~ '.' ~ constraint.expression.split(' ')[0]] -%}
                {%- do dropped.insert(0, altered ~ ' drop constraint if exists ' ~ name) -%}
                {%- do foreign.append(
                    altered ~ ' add constraint ' ~ name ~ ' foreign key (' ~ columns | join(', ')
                    ~ ') references ' ~ realtime_insights._relation_of(parent)
                ) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(dropped + primary + foreign) }}
{%- endmacro %}
