{#
    dbt run-operation register_bronze --vars '{lakehouse: "s3://bucket/insights"}'

    Makes the Delta tables that `ingest` writes known to Unity Catalog, as external tables under the
    names that the sources have. `lakehouse` is where `ingest` writes (its `--lakehouse`), within an
    external location on which whoever runs this may create external tables. `ingest run` creates the
    tables of all feeds; run it once before. What is registered already stays.
#}
{% macro register_bronze() -%}
    {%- if execute -%}
        {%- set lakehouse = (var('lakehouse', none) or env_var('LAKEHOUSE_PATH', '')).rstrip('/') -%}
        {%- if '://' not in lakehouse and not lakehouse.startswith('/') -%}
            {%- do exceptions.raise_compiler_error(
                'register_bronze: the variable lakehouse is no URL: ' ~ (lakehouse or 'it is not set')
                ~ '. Fix: give the URL of the folder that ingest writes to.'
            ) -%}
        {%- endif -%}
        {%- for source in graph.sources.values() | sort(attribute='name') if source.source_name == 'bronze' -%}
            {%- set relation = realtime_insights._source_relation(source) -%}
            {%- set folder = 'quarantine' if source.name == 'quarantine' else 'bronze/' ~ source.name -%}
            {%- if loop.first -%} {%- do adapter.create_schema(relation.without_identifier()) -%} {%- endif -%}
            {%- if adapter.get_relation(relation.database, relation.schema, relation.identifier) is none -%}
                {%- do realtime_insights.register_table(
                    relation, lakehouse ~ '/' ~ folder, source.description | trim
                ) -%}
                {%- do print(relation ~ ' is ' ~ lakehouse ~ '/' ~ folder) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}

{# Makes a Delta folder known to the catalog as a table. #}
{% macro register_table(relation, location, comment) -%}
    {{ return(adapter.dispatch('register_table', 'realtime_insights')(relation, location, comment)) }}
{%- endmacro %}

{% macro default__register_table(relation, location, comment) -%}
    {%- do exceptions.raise_compiler_error(
        'register_bronze: this engine reads bronze where it lies, nothing is to be registered'
    ) -%}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/tables/external #}
{% macro databricks__register_table(relation, location, comment) -%}
    {%- do run_query(
        'create table if not exists ' ~ relation ~ ' using delta location '
        ~ realtime_insights.text_literal(location) ~ ' comment ' ~ realtime_insights.text_literal(comment)
    ) -%}
{%- endmacro %}

{% macro _source_relation(source) -%}
    {{ return(api.Relation.create(
        database=source.database, schema=source.schema, identifier=source.identifier, type='table'
    )) }}
{%- endmacro %}
