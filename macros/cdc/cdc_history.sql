{#
    The history of every key of a change stream (slowly changing dimension, type 2).

    One row per key and `_sequence`: also the changes that changed nothing and the deletes, because
    an event that comes late may need them. `_is_version` marks the rows that are versions; they hold
    from `valid_from` (inclusive) to `valid_to` (exclusive, NULL while open), in units of the
    sequence, and from `valid_from_at` to `valid_to_at` in UTC. Changes that change no column extend
    the version before them. A delete closes a version and opens none; a gap is never bridged.

    On an incremental run the keys that the new batches touch are computed anew from what the table
    holds of them and the new changes; other keys are not touched.

    changes, keys, columns   as in `cdc_current`
    partial   optional: the columns that a change may leave unset, which it says in `_has_<column>`.
              Such a column has the value of the change before it, never across a delete.
#}
{% macro cdc_history(changes, keys, columns, partial=[]) -%}
{%- set keys = realtime_insights._quoted(keys) -%}
{%- set columns = realtime_insights._quoted(columns) -%}
{%- set key_list = keys | join(', ') -%}
{%- set flags = [] -%}
{%- for column in partial -%} {%- do flags.append('_has_' ~ column) -%} {%- endfor -%}
{%- set event_columns = keys + columns + flags + realtime_insights._state_columns() -%}
with

new_changes as (
    {{ realtime_insights._changes_in_window(changes, keys, columns, partial) }}
),

events as (
    select * from new_changes
    {%- if is_incremental() %}
    union all
    select
        {%- for column in event_columns %}
        standing.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ this }} as standing
    inner join (select distinct {{ key_list }} from new_changes) as touched
        on
            {%- for key in keys %}
            {{ 'and ' if not loop.first }}standing.{{ key }} = touched.{{ key }}
            {%- endfor %}
    {%- endif %}
),

-- Of two changes with the same sequence the later arrival counts.
settled as (
    select *
    from events
    qualify row_number() over (
        partition by {{ key_list }}, _sequence
        order by {{ realtime_insights._arrival_order(' desc') }}
    ) = 1
),

{%- if partial %}

lives as (
    select
        *,
        sum(case when _is_deleted then 1 else 0 end) over (
            partition by {{ key_list }} order by _sequence
            rows between unbounded preceding and current row
        ) as life_number
    from settled
),

-- The change that sets the column at this point: of those so far, the last that has it.
setters as (
    select
        *,
        {%- for column in partial %}
        max(case when _has_{{ column }} or _is_deleted then _sequence end) over (
            partition by {{ key_list }}, life_number order by _sequence
            rows between unbounded preceding and current row
        ) as _{{ column }}_setter{{ ',' if not loop.last }}
        {%- endfor %}
    from lives
),

filled as (
    select
        {%- for column in event_columns if column not in realtime_insights._quoted(partial) %}
        {{ column }},
        {%- endfor %}
        {%- for column in partial %}
        first_value({{ adapter.quote(column) }}) over (
            partition by {{ key_list }}, life_number, _{{ column }}_setter order by _sequence
            rows between unbounded preceding and current row
        ) as {{ adapter.quote(column) }}{{ ',' if not loop.last }}
        {%- endfor %}
    from setters
),
{%- endif %}

compared as (
    select
        *,
        case
            when
                lag(_sequence) over (partition by {{ key_list }} order by _sequence) is null
                or _is_deleted
                or lag(_is_deleted) over (partition by {{ key_list }} order by _sequence)
                {%- for column in columns %}
                or {{ column }} is distinct from
                    lag({{ column }}) over (partition by {{ key_list }} order by _sequence)
                {%- endfor %}
                then 1
            else 0
        end as starts_version
    from {{ 'filled' if partial else 'settled' }}
),

numbered as (
    select
        *,
        sum(starts_version) over (
            partition by {{ key_list }} order by _sequence
            rows between unbounded preceding and current row
        ) as version_number,
        lead(_sequence) over (partition by {{ key_list }} order by _sequence) as next_sequence,
        lead(_changed_at) over (partition by {{ key_list }} order by _sequence) as next_changed_at,
        coalesce(
            lead(starts_version) over (partition by {{ key_list }} order by _sequence), 1
        ) as next_starts_version
    from compared
),

final as (
    select
        {%- for key in keys %}
        {{ key }},
        {%- endfor %}
        {%- for column in columns %}
        case when not _is_deleted then {{ column }} end as {{ column }},
        {%- endfor %}
        min(_sequence) over (partition by {{ key_list }}, version_number) as valid_from,
        case when next_starts_version = 1 then next_sequence end as valid_to,
        first_value(_changed_at) over (
            partition by {{ key_list }}, version_number order by _sequence
            rows between unbounded preceding and current row
        ) as valid_from_at,
        case when next_starts_version = 1 then next_changed_at end as valid_to_at,
        next_starts_version = 1 and not _is_deleted as _is_version,
        {%- for flag in flags %}
        {{ flag }},
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        {{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from numbered
)

select * from final
{%- endmacro %}
