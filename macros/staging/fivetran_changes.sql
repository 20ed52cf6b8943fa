{#
    A table that Fivetran writes, to change rows.

    `soft_delete` (Fivetran's default for databases): the table holds the current state of every
    row, with deletes marked; the sequence is the time of the sync. `history`: the table holds every
    version (`_fivetran_start`, `_fivetran_end`, `_fivetran_active`); a version that ended without a
    successor is a delete. A version and the end of the one before it share a time: the sequence is
    a struct in which the end comes first.

    https://fivetran.com/docs/core-concepts/system-columns-and-tables
    https://fivetran.com/docs/core-concepts/sync-modes/history-mode
#}
{% macro fivetran_changes(relation, feed, columns, keys, mode='soft_delete', changed_at=none) -%}
    {%- if mode not in ('soft_delete', 'history') -%}
        {%- do exceptions.raise_compiler_error("mode '" ~ mode ~ "' is neither soft_delete nor history") -%}
    {%- endif -%}
    {%- set history = mode == 'history' -%}
    {%- set system = (
        ['_fivetran_start', '_fivetran_end', '_fivetran_active', '_fivetran_event', '_fivetran_written']
        if history else ['_fivetran_synced', '_fivetran_deleted']
    ) -%}
    {%- set fields = (columns | list + ([changed_at] if changed_at else []) + system) | unique | list -%}
with

{% if history -%}
-- The end of a version counts as written when it ended, should the sync time be that of its start.
versions as (
    select
        *,
        'start' as _fivetran_event,
        _fivetran_synced as _fivetran_written
    from {{ relation }}
    union all
    select
        *,
        'end' as _fivetran_event,
        greatest(_fivetran_synced, _fivetran_end) as _fivetran_written
    from {{ relation }}
    where not _fivetran_active
),

{{ realtime_insights._table_fields(
    'versions', feed, fields, keys, '_fivetran_written', identity=['_fivetran_start', '_fivetran_event']
) }},

-- Fivetran ends a version one millisecond before the next one starts.
events as (
    select
        *,
        case {{ realtime_insights._text('_fivetran_event') }} when 'end' then 'd' else 'u' end as _op,
        case {{ realtime_insights._text('_fivetran_event') }}
            when 'end' then {{ realtime_insights._flat_time('_fivetran_end') }} + interval '1' millisecond
            else {{ realtime_insights._flat_time('_fivetran_start') }}
        end as _changed_at
    from fields
),

changes as (
    select
        *,
        _op = 'd' as _is_deleted,
        case
            when _changed_at is not null
                then {{ realtime_insights.sequence_struct({
                    'at': realtime_insights.epoch_microseconds('_changed_at'),
                    'is_start': "case when _op = 'd' then 0 else 1 end",
                }) }}
        end as _sequence
    from events
),
{%- else -%}
{{ realtime_insights._table_fields(relation, feed, fields, keys, '_fivetran_synced') }},

changes as (
    select
        *,
        case when {{ realtime_insights._text('_fivetran_deleted') }} = 'true' then 'd' else 'u' end as _op,
        coalesce({{ realtime_insights._text('_fivetran_deleted') }} = 'true', false) as _is_deleted,
        {{ realtime_insights._flat_time(changed_at) }} as _changed_at,
        batch_id as _sequence
    from fields
),
{%- endif %}

{{ realtime_insights._typed_and_checked(
    'changes', columns, keys, key_only_deletes=true, checks=[],
    value=realtime_insights._table_value(fields),
) }}
{%- endmacro %}
