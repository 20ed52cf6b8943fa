{#
    Flat records with a column that says what was done to the row, to change rows: JSON objects in
    bronze (CSV rows are landed as such), or the rows of a table that somebody else writes.
#}
{% macro operation_changes(
    relation, feed, columns, keys, operation, operations, sequence, changed_at=none, written_at=none,
    null_text=none, truncates=false
) -%}
    {%- set fields = (
        columns | list + [operation] + sequence | list
        + ([changed_at] if changed_at else []) + ([written_at] if written_at else [])
    ) | unique | list -%}
    {%- set letters = {'insert': 'c', 'update': 'u', 'delete': 'd', 'truncate': 't'} -%}
    {%- for kind in operations if kind not in letters -%}
        {%- do exceptions.raise_compiler_error(
            "operations: '" ~ kind ~ "' is not one of " ~ letters | join(', ')
        ) -%}
    {%- endfor -%}
with

{% if written_at -%}
{{ realtime_insights._table_fields(
    relation, feed, fields, keys, written_at, identity=[operation] + sequence | list
) }},
{%- else -%}
{{ realtime_insights._landed_fields(relation, feed, fields, null_text=null_text) }},
{%- endif %}

operations as (
    select
        *,
        case
            {%- for kind, values in operations.items() %}
            when {{ realtime_insights._text(operation) }} in ('{{ values | join("', '") }}')
                then '{{ letters[kind] }}'
            {%- endfor %}
        end as _op,
        {{ realtime_insights._flat_time(changed_at) }} as _changed_at,
        {{ realtime_insights._flat_sequence(sequence) }} as _sequence
    from fields
),

changes as (
    select
        *,
        coalesce(_op = 'd', false) as _is_deleted
    from operations
),

{{ realtime_insights._typed_and_checked(
    'changes', columns, keys, key_only_deletes=true, truncates=truncates,
    checks=([] if written_at else [("_document is null", "not a JSON document")])
        + realtime_insights._operation_checks(truncates),
    value=realtime_insights._table_value(fields) if written_at else '_value',
) }}
{%- endmacro %}
