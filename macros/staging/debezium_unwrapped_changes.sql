{#
    Records of Debezium's ExtractNewRecordState (the row alone, with metadata beside the columns),
    landed as text, to change rows. The connector must be told to add the operation and the
    position, and to keep deletes: docs/sources.md has the settings. A record without them is
    rejected with a reason that names the setting.

    https://debezium.io/documentation/reference/stable/transformations/event-flattening.html
#}
{% macro debezium_unwrapped_changes(
    relation, feed, columns, keys, large=[], connector='postgresql', servers=[], prefix='__',
    ignore_tombstones=false
) -%}
    {%- set position = realtime_insights._debezium_position_fields(connector) -%}
    {%- set metadata = ['op', 'deleted', 'source_ts_ms', 'source_ts_us'] -%}
    {%- set positions = {} -%}
    {%- for name in position -%}
        {%- do metadata.extend([name, 'source_' ~ name]) -%}
        {%- do positions.update({name: '_at_' ~ name}) -%}
    {%- endfor -%}
    {%- set fields = columns | list -%}
    {%- for name in metadata -%} {%- do fields.append(prefix ~ name) -%} {%- endfor -%}
    {%- set deleted = realtime_insights._text(prefix ~ 'deleted') -%}
with

{{ realtime_insights._landed_fields(relation, feed, fields, tombstones=not ignore_tombstones) }},

metadata as (
    select
        *,
        coalesce(
            {{ realtime_insights._text(prefix ~ 'op') }},
            case {{ deleted }} when 'true' then 'd' when 'false' then 'u' end
        ) as _written_op,
        {%- for name in position %}
        coalesce(
            {{ realtime_insights._text(prefix ~ 'source_' ~ name) }},
            {{ realtime_insights._text(prefix ~ name) }}
        ) as _at_{{ name }}{{ ',' if not loop.last }}
        {%- endfor %}
    from fields
),

changes as (
    select
        *,
        case when _written_op = 'i' then 'c' else _written_op end as _op,
        coalesce(_written_op = 'd' or {{ deleted }} = 'true', false) as _is_deleted,
        {{ realtime_insights.source_timestamp(
            'coalesce(' ~ realtime_insights._text(prefix ~ 'source_ts_us') ~ ', '
            ~ realtime_insights._text(prefix ~ 'source_ts_ms') ~ ')'
        ) }} as _changed_at,
        {{ realtime_insights._debezium_sequence(connector, positions, '_written_op', servers) }} as _sequence
    from metadata
),

{{ realtime_insights._typed_and_checked(
    'changes', columns, keys, large=large, unavailable=true, key_only_deletes=true,
    checks=[
        ("_value is null", "a tombstone without position: set delete.tombstone.handling.mode=rewrite"),
        ("_document is null", "not a JSON document"),
        ("_op is null", "no " ~ prefix ~ "op: add op to add.fields"),
        ("_op not in ('c', 'u', 'd', 'r')", "unknown operation"),
        (
            "_sequence is null",
            "no position: add source." ~ position | join(',source.') ~ " to add.fields",
        ),
    ] + realtime_insights._debezium_server_checks(connector, positions, servers),
) }}
{%- endmacro %}
