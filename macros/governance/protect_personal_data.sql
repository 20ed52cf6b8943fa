{#
    Post-hook of every table, in force where the variable `governance` is true: a table that was made
    just now gets the tags and masks of its personal data before anybody else is told of it. Columns
    say what they are in YAML: `config: {meta: {personal_data: email}}`.
#}
{% macro protect_personal_data() -%}
    {%- if execute and var('governance', false) and not is_incremental()
            and model.config.materialized in ['table', 'incremental'] -%}
        {%- for statement in realtime_insights.personal_data_statements(model, this) -%}
            {%- do run_query(statement) -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}

{# The statements that tag and mask the personal data of a table. #}
{% macro personal_data_statements(node, relation) -%}
    {{ return(adapter.dispatch('personal_data_statements', 'realtime_insights')(node, relation)) }}
{%- endmacro %}

{% macro default__personal_data_statements(node, relation) -%}
    {{ return([]) }}
{%- endmacro %}

{#
    Tags: https://docs.databricks.com/aws/en/database-objects/tags
    Masks: https://docs.databricks.com/aws/en/data-governance/unity-catalog/filters-and-masks
    They are no `databricks_tags` and `column_mask` of the column: the adapter applies masks only with
    its second materialisations, and only tags to a table that is replaced.
#}
{% macro databricks__personal_data_statements(node, relation) -%}
    {%- set statements = [] -%}
    {%- for column in node.columns.values() if realtime_insights._personal_data(column) -%}
        {%- set kind = realtime_insights._personal_data(column) -%}
        {%- set altered = 'alter table ' ~ relation ~ ' alter column ' ~ adapter.quote(column.name) -%}
        {%- do statements.append(altered ~ " set tags ('personal_data' = '" ~ kind ~ "')") -%}
        {%- if var('personal_data_readers', none) -%}
            {%- do statements.append(altered ~ ' set mask ' ~ realtime_insights.mask_function(kind)) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(statements) }}
{%- endmacro %}

{# The kind of personal data that a column holds; nothing where it holds none. #}
{% macro _personal_data(column) -%}
    {{ return(column.get('meta', {}).get('personal_data') or column.get('config', {}).get('meta', {}).get('personal_data')) }}
{%- endmacro %}

{#
    Every kind of personal data: its type, and what who may not see the value sees instead. The
    functions are made by `govern`.
#}
{% macro personal_data_kinds() -%}
    {{ return({
        'name': {'type': 'string', 'masked': "'***'"},
        'email': {'type': 'string', 'masked': "concat('***@', substring_index(value, '@', -1))"},
        'birth_date': {'type': 'date', 'masked': 'make_date(year(value), 1, 1)'},
        'place': {'type': 'double', 'masked': 'round(value, 0)'},
    }) }}
{%- endmacro %}

{# The full name of the function that masks a kind of personal data. #}
{% macro mask_function(kind) -%}
    {%- if kind not in realtime_insights.personal_data_kinds() -%}
        {%- do exceptions.raise_compiler_error(
            'personal_data: there is no kind ' ~ kind ~ ', kinds are '
            ~ realtime_insights.personal_data_kinds() | join(', ')
        ) -%}
    {%- endif -%}
    {{ return(realtime_insights.run_state_relation('mask_' ~ kind)) }}
{%- endmacro %}
