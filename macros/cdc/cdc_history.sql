{#
    The history of every key of a change stream (slowly changing dimension, type 2).

    One row per key and sequence: also the changes that changed nothing and the deletes, because an
    event that comes late may need them. `_is_version` marks the rows that are versions; they hold
    from `valid_from` (inclusive) to `valid_to` (exclusive, NULL while open), in units of the
    sequence, and from `valid_from_at` to `valid_to_at` in UTC. Changes that change no tracked column
    extend the version before them, which takes their values. A delete closes a version and opens
    none; a gap is never bridged.

    On an incremental run the keys that the new batches touch are computed anew from what the table
    holds of them and the new changes, and the rows that become others are written.

    track          list of the columns whose change starts a new version; default: all
    track_except   instead: all but these

    All other options as in `cdc_current`, but `truncate_when`. A value that a change leaves unset is
    that of the change before it, never across a delete.
#}
{% macro cdc_history(
    changes=none, keys=none, columns=none, except_columns=none, sequence='_sequence',
    delete_when='_is_deleted', truncate_when=none, partial=none,
    ignore_null_updates=false, ignore_null_updates_except=none, updated_columns=none,
    once=none, snapshots=none, subject=none, track=none, track_except=none
) -%}
    {%- set options = realtime_insights._cdc_options('history', {
        'changes': changes, 'keys': keys, 'columns': columns, 'except_columns': except_columns,
        'sequence': sequence, 'delete_when': delete_when, 'truncate_when': truncate_when,
        'partial': partial, 'ignore_null_updates': ignore_null_updates,
        'ignore_null_updates_except': ignore_null_updates_except,
        'updated_columns': updated_columns, 'once': once, 'snapshots': snapshots, 'subject': subject,
        'track': track, 'track_except': track_except,
    }, kwargs.keys()) -%}
    {{- realtime_insights._cdc_config(options, unique_key=options['keys'] + ['_sequence']) -}}
    {%- if execute -%}
        {%- set batch = realtime_insights._cdc_batch(options) -%}
        {%- if batch.is_empty -%}
            select * from {{ this }} where false
        {%- else -%}
            {{ realtime_insights._cdc_history(options, batch) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{% macro _cdc_history(options, batch) -%}
{%- set keys = realtime_insights._quoted(options['keys']) -%}
{%- set key_list = keys | join(', ') -%}
{%- set no_time = "cast('0001-01-01' as timestamp)" -%}
{%- set by_key = 'partition by ' ~ key_list ~ ' order by _sequence' -%}
{%- set so_far = by_key ~ ' rows between unbounded preceding and current row' -%}
{%- set kept = batch.slots | map(attribute='column') | unique | list -%}
{%- set columns = options['keys'] + batch.columns -%}
{%- if options.track is not none -%}
    {%- set tracked = options.track -%}
{%- else -%}
    {%- set tracked = batch.columns | reject('in', options.track_except or []) | list -%}
{%- endif -%}
with

{{ realtime_insights._cdc_changes(options, batch) }},

{%- if is_incremental() %}

standing as (
    select state.*
    from {{ this }} as state
    inner join (select distinct {{ key_list }} from changes) as touched
        on
            {{ realtime_insights._same_keys(options['keys'], 'state', 'touched') }}
),

-- Changes that the table holds already change nothing.
fresh as (
    select changes.*
    from changes
    left join standing
        on
            {{ realtime_insights._same_keys(options['keys'], 'changes', 'standing') }}
            and changes._sequence = standing._sequence
    qualify max(
        case
            when
                standing._sequence is null
                or changes._is_deleted <> standing._is_deleted
                {%- for slot in batch.slots if slot.column in batch.new %}
                or changes._has_{{ slot.name }}
                {%- endfor %}
                {%- for slot in batch.slots if slot.column not in batch.new %}
                or changes._has_{{ slot.name }} <> standing._has_{{ slot.name }}
                or (
                    changes._has_{{ slot.name }}
                    and {{ realtime_insights._field(slot.path, 'changes.') }}
                    is distinct from {{ realtime_insights._field(slot.path, 'standing.') }}
                )
                {%- endfor %}
                {%- for column in batch.columns if column not in kept %}
                or changes.{{ adapter.quote(column) }} is {{ 'not null' if column in batch.new
                    else 'distinct from standing.' ~ adapter.quote(column) }}
                {%- endfor %}
                then 1
            else 0
        end
    ) over (
        partition by {% for key in keys %}changes.{{ key }}, {% endfor %}changes._sequence
    ) = 1
),
{%- endif %}

events as (
    select
        {{ realtime_insights._quoted(columns) | join(', ') }},
        {{- realtime_insights._vanished_columns(batch) }}
        {%- for slot in batch.slots %}
        _has_{{ slot.name }},
        {%- endfor %}
        {{ realtime_insights._state_columns() | join(', ') }}
    from {{ 'fresh' if is_incremental() else 'changes' }}
    {%- if is_incremental() %}
    union all
    select
        {%- for column in columns %}
        {{ realtime_insights._null_of(column, batch) ~ ' as ' if column in batch.new else 'standing.' }}{{ adapter.quote(column) }},
        {%- endfor %}
        {%- for column in batch.vanished %}
        standing.{{ adapter.quote(column) }},
        {%- endfor %}
        {%- for slot in batch.slots %}
        {{ 'false as ' if slot.column in batch.new else 'standing.' }}_has_{{ slot.name }},
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        standing.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from standing
    inner join (select distinct {{ key_list }} from fresh) as touched
        on
            {{ realtime_insights._same_keys(options['keys'], 'standing', 'touched') }}
    {%- endif %}
),

{%- if batch.slots %}

placed as (
    select
        *,
        row_number() over (
            partition by {{ key_list }} order by _sequence, {{ realtime_insights._arrival_order() }}
        ) as _place
    from events
),

-- A delete ends a life: nothing is inherited across it.
lives as (
    select
        *,
        sum(case when _is_deleted then 1 else 0 end) over (
            partition by {{ key_list }} order by _place rows between unbounded preceding and current row
        ) as _life
    from placed
),

{%- set so_far_in_life -%}
    partition by {{ key_list }}, _life order by _place rows between unbounded preceding and current row
{%- endset %}

-- A value that a change leaves unset is the last one that was set in this life.
inherited as (
    select
        *,
        {%- for slot in batch.slots %}
        {{ realtime_insights.last_known(
            'case when _has_' ~ slot.name ~ ' then '
            ~ realtime_insights.struct_of({'value': realtime_insights._field(slot.path)}) ~ ' end', so_far_in_life
        ) }} as _slot_{{ slot.name }},
        max(case when _has_{{ slot.name }} then 1 else 0 end) over (
            partition by {{ key_list }}, _life, _sequence
        ) = 1 as _set_{{ slot.name }},
        {%- endfor %}
        max(case when _is_deleted then 1 else 0 end) over (partition by {{ key_list }}, _sequence) = 1
            as _follows_delete
    from lives
),

{%- set values = {} -%}
{%- for slot in batch.slots -%}
    {%- do values.update({slot.name: '_slot_' ~ slot.name ~ '.value'}) -%}
{%- endfor %}

filled as (
    select
        {%- for column in options['keys'] %}
        {{ adapter.quote(column) }},
        {%- endfor %}
        {%- for column in batch.columns %}
        {{ 'case when not _is_deleted then ' ~ realtime_insights._from_slots([column], batch.slots, values) ~ ' end as '
            if column in kept }}{{ adapter.quote(column) }},
        {%- endfor %}
        {%- for column in batch.vanished %}
        {{ adapter.quote(column) }},
        {%- endfor %}
        {%- for slot in batch.slots %}
        _set_{{ slot.name }} or _follows_delete as _has_{{ slot.name }},
        {%- endfor %}
        {{ realtime_insights._state_columns() | join(', ') }}
    from inherited
),
{%- endif %}

-- Of two changes with the same sequence the later arrival counts.
settled as (
    select *
    from {{ 'filled' if batch.slots else 'events' }}
    qualify row_number() over (
        partition by {{ key_list }}, _sequence order by {{ realtime_insights._arrival_order(' desc') }}
    ) = 1
),

compared as (
    select
        *,
        case
            when
                lag(_sequence) over ({{ by_key }}) is null
                or _is_deleted
                or lag(_is_deleted) over ({{ by_key }})
                {%- for column in realtime_insights._quoted(tracked) %}
                or {{ column }} is distinct from lag({{ column }}) over ({{ by_key }})
                {%- endfor %}
                then 1
            else 0
        end as _starts_version
    from settled
),

periods as (
    select
        *,
        {{ realtime_insights.last_known('case when _starts_version = 1 then _sequence end', so_far) }}
            as _start,
        -- A start that does not know its time must not take that of the version before it.
        nullif({{ realtime_insights.last_known(
            "case when _starts_version = 1 then coalesce(_changed_at, " ~ no_time ~ ") end", so_far
        ) }}, {{ no_time }}) as _start_at,
        lead(_sequence) over ({{ by_key }}) as _next_sequence,
        lead(_changed_at) over ({{ by_key }}) as _next_changed_at,
        coalesce(lead(_starts_version) over ({{ by_key }}), 1) = 1 as _is_last
    from compared
),

computed as (
    select
        {%- for column in realtime_insights._quoted(columns) %}
        {{ column }},
        {%- endfor %}
        {%- for column in batch.vanished %}
        {{ adapter.quote(column) }},
        {%- endfor %}
        _start as valid_from,
        case when _is_last then _next_sequence end as valid_to,
        _start_at as valid_from_at,
        case when _is_last then _next_changed_at end as valid_to_at,
        _is_last and not _is_deleted as _is_version,
        {%- for slot in batch.slots %}
        _has_{{ slot.name }},
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        {{ column }},
        {%- endfor %}
        cast({{ batch.run_number }} as bigint) as _applied_run
    from periods
),

-- Of the keys that are computed anew only the rows that become others are written.
final as (
    select computed.*
    from computed
    {%- if is_incremental() %}
    left join standing
        on
            {{ realtime_insights._same_keys(options['keys'], 'computed', 'standing') }}
            and computed._sequence = standing._sequence
    where
        standing._sequence is null
        or {{ realtime_insights._differs(batch, 'computed', 'standing') }}
        {%- for column in realtime_insights._period_columns() + ['_is_version']
                + realtime_insights._state_columns() if column not in ['_is_deleted', '_sequence'] %}
        or computed.{{ column }} is distinct from standing.{{ column }}
        {%- endfor %}
        {%- for slot in batch.slots %}
        or computed._has_{{ slot.name }} is distinct from {{ 'false' if slot.column in batch.new
            else 'standing._has_' ~ slot.name }}
        {%- endfor %}
    {%- endif %}
)

select * from final
{%- endmacro %}
