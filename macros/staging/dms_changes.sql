{#
    Records of AWS DMS, to change rows: its S3 files as `ingest` lands them (JSON objects of
    strings), or a table that holds them (`written_at`). A task must add the change sequence as a
    column (`sequence`, from $AR_H_CHANGE_SEQ); rows of the full load have none, they come before
    every change.

    https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Target.S3.html
    https://docs.aws.amazon.com/dms/latest/userguide/CHAP_Tasks.CustomizingTasks.TableMapping.SelectionTransformation.Expressions.html
#}
{% macro dms_changes(
    relation, feed, columns, keys, sequence='transact_id', changed_at=none, written_at=none,
    operation='Op', null_text=''
) -%}
    {%- set fields = (
        columns | list + [operation, sequence] + ([changed_at] if changed_at else [])
        + ([written_at] if written_at else [])
    ) | unique | list -%}
    {%- set op = "coalesce(nullif(" ~ realtime_insights._text(operation) ~ ", ''), 'I')" -%}
    {%- set position = "nullif(" ~ realtime_insights._text(sequence) ~ ", '')" -%}
with

{% if written_at -%}
{{ realtime_insights._table_fields(
    relation, feed, fields, keys, written_at, identity=[operation, sequence]
) }},
{%- else -%}
{{ realtime_insights._landed_fields(relation, feed, fields, null_text=null_text) }},
{%- endif %}

changes as (
    select
        *,
        case
            when {{ op }} = 'I' and {{ position }} is null then 'r'
            when {{ op }} = 'I' then 'c'
            when {{ op }} = 'U' then 'u'
            when {{ op }} = 'D' then 'd'
        end as _op,
        {{ op }} = 'D' as _is_deleted,
        {{ realtime_insights._flat_time(changed_at) }} as _changed_at,
        case when {{ op }} = 'I' then coalesce({{ position }}, '') else {{ position }} end as _sequence
    from fields
),

{{ realtime_insights._typed_and_checked(
    'changes', columns, keys, key_only_deletes=true,
    checks=([] if written_at else [("_document is null", "not a JSON document")])
        + realtime_insights._operation_checks(false)
        + [("_sequence is null", "no " ~ sequence ~ ": add a column with $AR_H_CHANGE_SEQ to the task")],
    value=realtime_insights._table_value(fields) if written_at else '_value',
) }}
{%- endmacro %}
