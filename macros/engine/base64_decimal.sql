{#
    A decimal from the base64 text of its unscaled value: two's complement, most significant byte
    first, as Kafka Connect writes decimals in JSON. The scale is that of the type. NULL for text
    that is not base64 and for more than 8 bytes (18 digits always fit).
    https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-decimal-types
#}
{% macro base64_decimal(text, type) -%}
    {%- set scale = type.rstrip(')').split(',')[1] | int if ',' in type else 0 -%}
    {%- set unit = '0.' ~ '0' * (scale - 1) ~ '1' if scale else '1' -%}
    {%- set bytes = realtime_insights._base64_bytes(text) -%}
    {#- Sixteen digits; a number whose first digit is 8 or more is negative. -#}
    {%- set digits -%}
        lpad({{ bytes }}, 16, case when {{ bytes }} >= '8' then 'F' else '0' end)
    {%- endset -%}
    {%- set high = realtime_insights.hexadecimal_number('substr(' ~ digits ~ ', 1, 8)') -%}
    {%- set low = realtime_insights.hexadecimal_number('substr(' ~ digits ~ ', 9, 8)') -%}
    case
        when length({{ bytes }}) between 2 and 16
            then try_cast(
                cast(
                    ({{ high }} - case when {{ bytes }} >= '8' then 4294967296 else 0 end) * 4294967296
                    + {{ low }} as decimal(19, 0)
                ) * cast('{{ unit }}' as decimal({{ scale + 1 }}, {{ scale }})) as {{ type }}
            )
    end
{%- endmacro %}

{# The bytes of a base64 text in hexadecimal digits; NULL where it is none. #}
{% macro _base64_bytes(text) -%}
    {{ return(adapter.dispatch('_base64_bytes', 'realtime_insights')(text)) }}
{%- endmacro %}

{# https://docs.databricks.com/aws/en/sql/language-manual/functions/try_to_binary #}
{% macro default___base64_bytes(text) -%}
    {{ return("hex(try_to_binary(" ~ text ~ ", 'base64'))") }}
{%- endmacro %}

{# https://duckdb.org/docs/stable/sql/functions/blob #}
{% macro duckdb___base64_bytes(text) -%} {{ return('hex(try(from_base64(' ~ text ~ ')))') }} {%- endmacro %}
