{#
    A table that Airbyte writes, to change rows. A row with `_ab_cdc_deleted_at` is a delete;
    inserts and updates cannot be told apart. A row of which Airbyte nulled a value, because it did
    not fit the destination, is rejected: `_airbyte_meta` says so, and NULL is not what the source
    held.

    https://docs.airbyte.com/platform/understanding-airbyte/cdc
    https://docs.airbyte.com/platform/understanding-airbyte/airbyte-metadata-fields
#}
{% macro airbyte_changes(
    relation, feed, columns, keys, sequence={'_ab_cdc_lsn': 'bigint'}, deleted_at='_ab_cdc_deleted_at',
    changed_at='_ab_cdc_updated_at', meta='_airbyte_meta'
) -%}
    {%- set fields = (
        columns | list + sequence | list + ['_airbyte_raw_id', '_airbyte_extracted_at']
        + ([deleted_at] if deleted_at else []) + ([changed_at] if changed_at else [])
        + ([meta] if meta else [])
    ) | unique | list -%}
with

{{ realtime_insights._table_fields(
    relation, feed, fields, keys, '_airbyte_extracted_at', identity=['_airbyte_raw_id']
) }},

operations as (
    select
        *,
        {% if deleted_at -%}
        case
            when nullif({{ realtime_insights._text(deleted_at) }}, '') is not null then 'd' else 'u'
        end
        {%- else -%} 'u' {%- endif %} as _op,
        {{ realtime_insights._flat_time(changed_at) }} as _changed_at,
        {{ realtime_insights._flat_sequence(sequence) }} as _sequence
    from fields
),

changes as (
    select
        *,
        _op = 'd' as _is_deleted
    from operations
),

{{ realtime_insights._typed_and_checked(
    'changes', columns, keys, key_only_deletes=true,
    checks=[(
        realtime_insights._text(meta) ~ " like '%NULLED%' and not _is_deleted",
        "Airbyte nulled a value: see _airbyte_meta",
    )] if meta else [],
    value=realtime_insights._table_value(fields),
) }}
{%- endmacro %}
