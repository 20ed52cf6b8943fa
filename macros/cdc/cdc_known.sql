{#
    What was known when: every change of a stream with the time at which it was landed, as a whole
    model. A current table says what is true, a history says when it was true; this says since when
    one could know it, and so what a decision of a past day could rest on.

    One row per key, sequence and landing. `known_from` is the full minute after the change was
    landed, so that feeds that land together become known together; until `known_to` (exclusive, NULL
    while so) it was the newest known state of its key. A change that is landed behind a newer one
    never was: its `known_to` is its `known_from`. A resent change tells nothing new.

    The variable `known_time` says which column is the time of landing. It is `_ingested_at`; a
    lakehouse that was filled long after its records reached the broker may take `_source_timestamp`.

    On an incremental run the keys that the new batches touch are computed anew from what the table
    holds of them, and the rows that become others are written.

    subject   the column that says whose row it is: a delete, which carries only the key, takes it
              from the change before it
#}
{% macro cdc_known(changes, keys, columns, subject) -%}
    {{ config(
        materialized='incremental',
        incremental_strategy='cdc',
        unique_key=keys + ['_sequence', 'known_from'],
        liquid_clustered_by=keys[:4],
        on_schema_change='append_new_columns',
        meta={'cdc': {
            'kind': 'known', 'keys': keys, 'sequence': ['_sequence'], 'delete_when': '_is_deleted',
            'is_snapshot': false, 'truncate_when': none, 'subject': {'customer': subject},
        }},
        post_hook=[
            '{{ realtime_insights.record_watermarks() }}',
            '{{ realtime_insights.drop_batch("__batch") }}',
        ],
    ) }}
    {%- set columns = columns | reject('in', keys) | list -%}
    {%- if not execute -%} {{ return('') }} {%- endif -%}
    {%- if not realtime_insights._is_built() -%}
        {{- realtime_insights._cdc_known(
            '(' ~ realtime_insights._known_batch(changes, keys, columns) ~ ') as batch', keys, columns, subject, 0
        ) -}}
    {%- else -%}
        {%- set state = realtime_insights._run_state() -%}
        {%- set stopping = realtime_insights._stopping_inputs([changes]) -%}
        {%- do realtime_insights._check_full_refresh(state) -%}
        {%- if is_incremental() and realtime_insights.in_window(state) == '(false)' -%}
            {%- do realtime_insights._notes().update({'nothing_new': true}) -%}
            select * from {{ this }} where false
        {%- else -%}
            {%- set batch = realtime_insights.cdc_batch_relation() -%}
            {%- do realtime_insights._create_batch(
                batch, realtime_insights._known_batch(changes, keys, columns, stopping)
            ) -%}
            {%- if stopping -%} {%- do realtime_insights._check_expectations(stopping, batch) -%} {%- endif -%}
            {%- if not is_incremental() -%} {%- do realtime_insights._note_whole_table(state.run_number) -%} {%- endif -%}
            {{- realtime_insights._cdc_known(batch, keys, columns, subject, state.run_number) -}}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{# The changes that a run applies. #}
{% macro _known_batch(changes, keys, columns, stopping={}) -%}
    select
        {{ realtime_insights._quoted(keys) | join(', ') }},
        {%- for column in realtime_insights._quoted(columns) %}
        case when not _is_deleted then {{ column }} end as {{ column }},
        {%- endfor %}
        cast(date_trunc('minute', {{ var('known_time') }} + interval 1 minute) as timestamp) as known_from,
        _is_deleted,
        _sequence,
        _changed_at,
        {{ realtime_insights._arrival_order() }}
        {{- ', _feed, _broken_rules' if stopping }}
    from {{ changes }}
    where
        {{ realtime_insights.in_window() }}
        and _reject_reason is null
{%- endmacro %}

{% macro _cdc_known(batch, keys, columns, subject, run_number) -%}
{%- set key_list = realtime_insights._quoted(keys) | join(', ') -%}
{%- set arrival = realtime_insights._arrival_order() -%}
{%- set by_arrival = 'partition by ' ~ key_list ~ ' order by ' ~ arrival -%}
{%- set by_arrival_reversed = 'partition by ' ~ key_list ~ ' order by ' ~ realtime_insights._arrival_order(' desc') -%}
{%- set before = ' rows between unbounded preceding and 1 preceding' -%}
with

changes as (
    select
        {{ realtime_insights._quoted(keys + columns) | join(', ') }},
        known_from,
        _is_deleted,
        _sequence,
        _changed_at,
        {{ arrival }}
    from {{ batch }}
),

{%- if realtime_insights._is_built() and is_incremental() %}

standing as (
    select state.*
    from {{ this }} as state
    inner join (select distinct {{ key_list }} from changes) as touched
        on
            {{ realtime_insights._same_keys(keys, 'state', 'touched') }}
),
{%- endif %}

events as (
    select *
    from changes
    {%- if realtime_insights._is_built() and is_incremental() %}
    union all
    select
        {{ key_list }},
        {%- for column in realtime_insights._quoted(columns) %}
        case when not _is_deleted then {{ column }} end as {{ column }},
        {%- endfor %}
        known_from,
        _is_deleted,
        _sequence,
        _changed_at,
        {{ arrival }}
    from standing
    {%- endif %}
),

-- A clock that is set back makes nothing known before what was landed earlier.
arrived as (
    select
        *,
        max(known_from) over ({{ by_arrival }} rows between unbounded preceding and current row)
            as _landed_at,
        max(_sequence) over ({{ by_arrival }}{{ before }}) as _newest_before
    from events
),

-- Of changes with the same sequence in one landing the last arrival counts.
landed as (
    select
        *,
        coalesce(_sequence >= _newest_before, true) as _is_newest
    from arrived
    qualify row_number() over (
        partition by {{ key_list }}, _sequence, _landed_at order by {{ realtime_insights._arrival_order(' desc') }}
    ) = 1
),

replaced as (
    select
        *,
        min(case when _is_newest then _landed_at end) over ({{ by_arrival_reversed }}{{ before }})
            as _newer_landed_at
        {%- if subject not in keys %},
        {{ realtime_insights.last_known(
            adapter.quote(subject),
            'partition by ' ~ key_list ~ ' order by _sequence, ' ~ arrival
            ~ ' rows between unbounded preceding and current row',
        ) }} as _subject
        {%- endif %}
    from landed
),

computed as (
    select
        {{ key_list }},
        {%- for column in columns %}
        {{ '_subject as ' if column == subject }}{{ adapter.quote(column) }},
        {%- endfor %}
        _landed_at as known_from,
        case when _is_newest then _newer_landed_at else _landed_at end as known_to,
        _is_deleted,
        _sequence,
        _changed_at,
        {{ arrival }},
        cast({{ run_number }} as bigint) as _applied_run
    from replaced
),

final as (
    select computed.*
    from computed
    {%- if realtime_insights._is_built() and is_incremental() %}
    left join standing
        on
            {{ realtime_insights._same_keys(keys, 'computed', 'standing') }}
            and computed._sequence = standing._sequence
            and computed.known_from = standing.known_from
    where
        standing._sequence is null
        or computed.batch_id <> standing.batch_id
        or computed._position <> standing._position
        or computed.known_to is distinct from standing.known_to
        or computed.{{ adapter.quote(subject) }} is distinct from standing.{{ adapter.quote(subject) }}
    {%- endif %}
)

select * from final
{%- endmacro %}
