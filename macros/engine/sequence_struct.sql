{#
    A struct of named expressions (a dict of name to SQL), for instance the sequence of a source
    that orders changes by several columns. Structs compare field by field, in the order given.
#}
{% macro sequence_struct(fields) -%}
    {{ return(adapter.dispatch('sequence_struct', 'realtime_insights')(fields)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/named_struct #}
{% macro default__sequence_struct(fields) -%}
    {%- set parts = [] -%}
    {%- for name, expression in fields.items() -%}
        {%- do parts.append("'" ~ name ~ "', " ~ expression) -%}
    {%- endfor -%}
    {{ return('named_struct(' ~ parts | join(', ') ~ ')') }}
{%- endmacro %}

{# https://duckdb.org/docs/stable/sql/functions/struct #}
{% macro duckdb__sequence_struct(fields) -%}
    {%- set parts = [] -%}
    {%- for name, expression in fields.items() -%}
        {%- do parts.append(adapter.quote(name) ~ ' := ' ~ expression) -%}
    {%- endfor -%}
    {{ return('struct_pack(' ~ parts | join(', ') ~ ')') }}
{%- endmacro %}
