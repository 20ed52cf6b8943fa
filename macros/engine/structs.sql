{#
    A struct of named expressions (a dict of name to SQL): `struct_of({'value': 'amount'})`. Structs
    compare field by field, in the order given.
#}
{% macro struct_of(fields) -%}
    {{ return(adapter.dispatch('struct_of', 'realtime_insights')(fields)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/named_struct #}
{% macro default__struct_of(fields) -%}
    {%- set parts = [] -%}
    {%- for name, expression in fields.items() -%}
        {%- do parts.append("'" ~ name ~ "', " ~ expression) -%}
    {%- endfor -%}
    {{ return('named_struct(' ~ parts | join(', ') ~ ')') }}
{%- endmacro %}

{# https://duckdb.org/docs/stable/sql/data_types/struct #}
{% macro duckdb__struct_of(fields) -%}
    {%- set parts = [] -%}
    {%- for name, expression in fields.items() -%}
        {%- do parts.append("'" ~ name ~ "': " ~ expression) -%}
    {%- endfor -%}
    {{ return('{' ~ parts | join(', ') ~ '}') }}
{%- endmacro %}

{#
    The fields of a struct column as a dict of name to type; empty for any other type.

    column   as `adapter.get_columns_in_relation` gives it
#}
{% macro struct_fields(column) -%}
    {{ return(adapter.dispatch('struct_fields', 'realtime_insights')(column)) }}
{%- endmacro %}

{# The type reads struct<city:string,geo:struct<lat:double>>.
   https://docs.databricks.com/aws/en/sql/language-manual/data-types/struct-type #}
{% macro default__struct_fields(column) -%}
    {%- set type = column.dtype | string -%}
    {%- if not type.lower().startswith('struct<') -%} {{ return({}) }} {%- endif -%}
    {%- set found = namespace(depth=0, text='', fields={}) -%}
    {%- for character in type[7:-1] ~ ',' -%}
        {%- if character in '<(' -%} {%- set found.depth = found.depth + 1 -%} {%- endif -%}
        {%- if character in '>)' -%} {%- set found.depth = found.depth - 1 -%} {%- endif -%}
        {%- if character == ',' and found.depth == 0 -%}
            {%- set name_and_type = found.text.split(':', 1) -%}
            {%- do found.fields.update({name_and_type[0].strip(): name_and_type[1].strip()}) -%}
            {%- set found.text = '' -%}
        {%- else -%}
            {%- set found.text = found.text ~ character -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found.fields) }}
{%- endmacro %}

{% macro duckdb__struct_fields(column) -%}
    {%- set fields = {} -%}
    {%- for field in column.fields -%}
        {%- do fields.update({field.column.strip('"'): field.dtype}) -%}
    {%- endfor -%}
    {{ return(fields) }}
{%- endmacro %}

{#
    The last value before or at this row, NULLs left out, as a window function over `window`.
#}
{% macro last_known(expression, window) -%}
    {{ return(adapter.dispatch('last_known', 'realtime_insights')(expression, window)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/last_value #}
{% macro default__last_known(expression, window) -%}
    last_value({{ expression }}) ignore nulls over ({{ window }})
{%- endmacro %}

{# https://duckdb.org/docs/stable/sql/functions/window_functions #}
{% macro duckdb__last_known(expression, window) -%}
    last_value({{ expression }} ignore nulls) over ({{ window }})
{%- endmacro %}
