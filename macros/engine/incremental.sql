{#
    dbt's own incremental materialisations, but that a table that has nothing to compute is left alone:
    its one statement is the look-up that says so; a table of changes also counts that it read none.
    On DuckDB, where a statement takes less time than dbt needs to prepare it, the customers that a
    batch concerns are replaced without the adapter's look at columns. Everything else is the adapter's.
    https://docs.getdbt.com/reference/global-configs/legacy-behaviors#built-in-materializations
#}
{% materialization incremental, adapter='duckdb', supported_languages=['sql', 'python'] -%}
    {%- if realtime_insights._is_left_alone() -%}
        {{ return(realtime_insights._leave_alone()) }}
    {%- elif realtime_insights._is_recomputed_in_place() -%}
        {{ return(realtime_insights._recompute_in_place()) }}
    {%- endif -%}
    {{ return(dbt.materialization_incremental_duckdb()) }}
{%- endmaterialization %}

{% materialization incremental, adapter='databricks', supported_languages=['sql', 'python'] -%}
    {%- if realtime_insights._is_left_alone() -%}
        {{ return(realtime_insights._leave_alone()) }}
    {%- endif -%}
    {{ return(dbt.materialization_incremental_databricks()) }}
{%- endmaterialization %}

{% macro _leave_alone() -%}
    {%- if model.config.meta.get('cdc') -%} {%- do run_query(realtime_insights.log_changes()) -%} {%- endif -%}
    {%- call noop_statement('main', 'NOTHING NEW', 'NOTHING NEW', '0') -%} {{ model.compiled_code }} {%- endcall -%}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{%- endmacro %}
