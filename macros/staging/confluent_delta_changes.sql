{#
    A table that Confluent's Databricks Delta Lake sink appends to, to change rows: one row per
    record of a topic, its fields as columns. The topic must hold unwrapped Debezium records (the
    sink takes no nested fields), and the sink must add topic, partition, offset and timestamp as
    columns: docs/sources.md has the settings. Of one key the offset orders the changes.

    https://docs.confluent.io/cloud/current/connectors/cc-databricks-delta-lake-sink/cc-databricks-delta-lake-sink.html
    https://docs.confluent.io/platform/current/connect/transforms/insertfield.html
#}
{% macro confluent_delta_changes(
    relation, feed, columns, keys, written_at='kafka_timestamp', topic='kafka_topic',
    partition='partition', offset='kafka_offset', sequence=none, operation='__op', deleted='__deleted',
    changed_at='__source_ts_ms', large=[]
) -%}
    {%- set sequence = sequence or {offset: 'bigint'} -%}
    {%- set fields = (
        columns | list + sequence | list + [offset]
        + ([operation] if operation else []) + ([deleted] if deleted else [])
        + ([changed_at] if changed_at else [])
    ) | unique | list -%}
    {%- set deletes = realtime_insights._text(deleted) ~ " = 'true'" if deleted else 'false' -%}
with

{{ realtime_insights._table_fields(
    relation, feed, fields, keys, written_at,
    source=topic, partition=partition, position=offset,
) }},

operations as (
    select
        *,
        case
            when {{ deletes }} then 'd'
            {%- if operation %}
            when {{ realtime_insights._text(operation) }} = 'i' then 'c'
            when {{ realtime_insights._text(operation) }} is not null
                then {{ realtime_insights._text(operation) }}
            {%- endif %}
            {%- if deleted %}
            when {{ realtime_insights._text(deleted) }} = 'false' then 'u'
            {%- elif not operation %}
            else 'u'
            {%- endif %}
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
    'changes', columns, keys, large=large, unavailable=true, key_only_deletes=true,
    checks=realtime_insights._operation_checks(false),
    value=realtime_insights._table_value(fields),
) }}
{%- endmacro %}
