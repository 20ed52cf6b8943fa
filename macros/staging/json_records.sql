{#
    Flat JSON records (application events, rows of files), landed as text, to change rows. Every
    record is an upsert of its key: these feeds have no deletes. For feeds that say what they did in
    a column, see `operation_changes`.
#}
{% macro json_records(relation, feed, columns, keys, changed_at=none, sequence=none) -%}
    {%- set fields = (
        columns | list + ([changed_at] if changed_at else []) + ([sequence] if sequence else [])
    ) -%}
with

{{ realtime_insights._landed_fields(relation, feed, fields) }},

timed as (
    select
        *,
        'c' as _op,
        false as _is_deleted,
        {{ realtime_insights._flat_time(changed_at) if changed_at else '_source_timestamp' }}
            as _changed_at
    from fields
),

changes as (
    select
        *,
        {% if sequence -%}
        try_cast({{ realtime_insights._text(sequence) }} as bigint)
        {%- else -%}
        {{ realtime_insights.epoch_microseconds('_changed_at') }}
        {%- endif %} as _sequence
    from timed
),

{{ realtime_insights._typed_and_checked('changes', columns, keys, unavailable=true, checks=[
    ("_document is null", "not a JSON document"),
]) }}
{%- endmacro %}
