{#
    incremental_strategy: cdc

    Replaces rows of the target by key with the staged rows. The SELECT of the model has already
    decided what is to be written, so nothing is compared here.
#}
{% macro get_incremental_cdc_sql(arg_dict) -%}
    {%- do realtime_insights._note_subjects(arg_dict) -%}
    {{ return(adapter.dispatch('get_incremental_cdc_sql', 'realtime_insights')(arg_dict)) }}
{%- endmacro %}

{# A merge by the adapter, null-safe on the keys. #}
{% macro default__get_incremental_cdc_sql(arg_dict) -%}
    {{ return(get_incremental_merge_sql(arg_dict)) }}
{%- endmacro %}

{# DuckDB's MERGE updates matched rows in random order once a batch is a third of the table: minutes
   instead of a second. Delete and insert in the same transaction has no such cliff. #}
{% macro duckdb__get_incremental_cdc_sql(arg_dict) -%}
    {%- set target, staged = arg_dict['target_relation'], arg_dict['temp_relation'] -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    {%- set keys = [arg_dict['unique_key']] if arg_dict['unique_key'] is string else arg_dict['unique_key'] -%}
    delete from {{ target }} as target
    using {{ staged }} as staged
    where {{ realtime_insights._same_keys(keys, 'target', 'staged', null_safe=true) }};

    insert into {{ target }} ({{ columns }})
    select {{ columns }}
    from {{ staged }}
{%- endmacro %}
