{#
    Schemas are called what they hold: `staging`, `silver`, `marts`, `observability`, `seeds`.
    A developer who shares a catalog with others sets SCHEMA_PREFIX, e.g. `anna_`.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ env_var('SCHEMA_PREFIX', '') ~ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
