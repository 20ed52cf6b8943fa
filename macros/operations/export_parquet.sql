{#
    dbt run-operation export_parquet --args '{query: training_set, path: training_set.parquet}'

    Writes what an analysis selects, or a model holds, as Parquet: one file on a laptop, a directory of
    files on a warehouse (a volume, or cloud storage that it may write to). What stood at the path is
    replaced.
#}
{% macro export_parquet(query, path) -%}
    {%- if execute -%}
        {%- set nodes = [] -%}
        {%- for node in graph.nodes.values()
                if node.name == query and node.resource_type in ['analysis', 'model'] -%}
            {%- do nodes.append(node) -%}
        {%- endfor -%}
        {%- if not nodes -%}
            {%- do exceptions.raise_compiler_error(query ~ ' is no analysis and no model of this project') -%}
        {%- endif -%}
        {%- if nodes[0].resource_type == 'model' -%}
            {%- set sql = 'select * from ' ~ realtime_insights._relation_of(nodes[0]) -%}
        {%- else -%}
            {%- set sql = render(nodes[0].raw_code) -%}
        {%- endif -%}
        {%- do run_query(realtime_insights.write_parquet(sql, path)) -%}
        {%- do print(query ~ ' is written to ' ~ path ~ '.') -%}
    {%- endif -%}
{%- endmacro %}

{# The statement that writes the rows of a SELECT as Parquet. #}
{% macro write_parquet(sql, path) -%}
    {{ return(adapter.dispatch('write_parquet', 'realtime_insights')(sql, path)) }}
{%- endmacro %}

{# https://spark.apache.org/docs/latest/sql-ref-syntax-dml-insert-overwrite-directory.html #}
{% macro default__write_parquet(sql, path) -%}
insert overwrite directory {{ realtime_insights.text_literal(path) }} using parquet
{{ sql }}
{%- endmacro %}

{# https://duckdb.org/docs/stable/sql/statements/copy #}
{% macro duckdb__write_parquet(sql, path) -%}
copy (
{{ sql }}
) to {{ realtime_insights.text_literal(path) }} (format parquet)
{%- endmacro %}
