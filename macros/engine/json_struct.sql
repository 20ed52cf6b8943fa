{#
    Parses a JSON text column once into a struct whose leaves are strings.

    `fields` is a dict: a name maps to none for a leaf, or to a dict for an object. A field that the
    document lacks is NULL, and so is the whole struct when the text is not JSON: one broken
    document never fails the statement.
#}
{% macro json_struct(column, fields) -%}
    {{ return(adapter.dispatch('json_struct', 'realtime_insights')(column, fields)) }}
{%- endmacro %}

{# Databricks parses a broken document to a struct of NULLs, `json_object_keys` one to NULL.
   https://docs.databricks.com/aws/en/sql/language-manual/functions/from_json
   https://docs.databricks.com/aws/en/sql/language-manual/functions/json_object_keys #}
{% macro default__json_struct(column, fields) -%}
    {{ return(
        'case when json_object_keys(' ~ column ~ ') is not null then from_json(' ~ column ~ ", '"
        ~ realtime_insights._json_struct_ddl(fields) ~ "') end"
    ) }}
{%- endmacro %}

{# DuckDB takes the structure as JSON; `try` turns the error of a broken document into NULL.
   https://duckdb.org/docs/stable/data/json/json_functions #}
{% macro duckdb__json_struct(column, fields) -%}
    {{ return("try(from_json(" ~ column ~ ", '" ~ realtime_insights._json_structure(fields) ~ "'))") }}
{%- endmacro %}

{% macro _json_struct_ddl(fields) -%}
    {%- if fields is not mapping -%} {{ return('STRING') }} {%- endif -%}
    {%- set parts = [] -%}
    {%- for name, nested in fields.items() -%}
        {%- do parts.append('`' ~ name ~ '`: ' ~ realtime_insights._json_struct_ddl(nested)) -%}
    {%- endfor -%}
    {{ return('STRUCT<' ~ parts | join(', ') ~ '>') }}
{%- endmacro %}

{% macro _json_structure(fields) -%}
    {%- if fields is not mapping -%} {{ return('"VARCHAR"') }} {%- endif -%}
    {%- set parts = [] -%}
    {%- for name, nested in fields.items() -%}
        {%- do parts.append('"' ~ name ~ '":' ~ realtime_insights._json_structure(nested)) -%}
    {%- endfor -%}
    {{ return('{' ~ parts | join(',') ~ '}') }}
{%- endmacro %}
