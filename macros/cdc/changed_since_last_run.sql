{#
    A condition for models downstream: the rows of a CDC table that were written since this model
    read it last, tombstones included. On a first build and a full refresh that is every row. The
    model needs the post-hook `record_watermarks()`.

    relation   `ref` of the CDC table, not of a view over it
#}
{% macro changed_since_last_run(relation) -%}
    {%- if not realtime_insights._is_built() or not is_incremental() -%} {{ return('true') }} {%- endif -%}
    {{ return('_applied_run > ' ~ realtime_insights._run_state().read.get(relation.identifier, 0)) }}
{%- endmacro %}
