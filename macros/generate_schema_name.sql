{#
    Schemas are called what they hold: `staging`, `silver`, `marts`, `observability`, `seeds`.
    A developer who shares a catalog with others sets SCHEMA_PREFIX, or the variable
    `schema_prefix` where a scheduler gives dbt no environment, e.g. to `anna_`.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ var('schema_prefix', env_var('SCHEMA_PREFIX', '')) ~ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
