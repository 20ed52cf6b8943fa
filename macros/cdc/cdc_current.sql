{#
    The current state of every key of a change stream (slowly changing dimension, type 1).

    One row per key with the values of its greatest `_sequence`, whatever order the changes arrive
    in. A deleted key stays as a tombstone: key, sequence and `_is_deleted`, every other column NULL,
    so that a late change older than the delete does not bring it back. Consumers read the view
    without tombstones. Of two changes with the same sequence the later arrival counts.

    On an incremental run only the batches after the model's watermark are read, and only winners
    that are newer than what stands are returned, to be written by the `cdc` strategy.

    changes   list of staging relations with the change columns
    keys      list of key columns
    columns   list of the other business columns
    partial   optional: the columns that a change may leave unset, which it says in `_has_<column>`.
              Such a column keeps the value of the greatest sequence that set it; a delete sets all.
#}
{% macro cdc_current(changes, keys, columns, partial=[]) -%}
    {%- set keys = realtime_insights._quoted(keys) -%}
    {%- set columns = realtime_insights._quoted(columns) -%}
    {%- if partial -%}
        {{ realtime_insights._cdc_current_partial(changes, keys, columns, partial) }}
    {%- else -%}
        {{ realtime_insights._cdc_current_whole(changes, keys, columns) }}
    {%- endif -%}
{%- endmacro %}

{% macro _cdc_current_whole(changes, keys, columns) -%}
with

new_changes as (
    {{ realtime_insights._changes_in_window(changes, keys, columns) }}
),

winners as (
    select *
    from new_changes
    qualify row_number() over (
        partition by {{ keys | join(', ') }}
        order by _sequence desc, {{ realtime_insights._arrival_order(' desc') }}
    ) = 1
),

final as (
    select
        {%- for key in keys %}
        winners.{{ key }},
        {%- endfor %}
        {%- for column in columns %}
        case when not winners._is_deleted then winners.{{ column }} end as {{ column }},
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        winners.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from winners
    {%- if is_incremental() %}
    left join {{ this }} as standing
        on
            {%- for key in keys %}
            {{ 'and ' if not loop.first }}winners.{{ key }} = standing.{{ key }}
            {%- endfor %}
    where
        standing._sequence is null
        or winners._sequence > standing._sequence
        or (winners._sequence = standing._sequence and winners.batch_id > standing.batch_id)
        or (
            winners._sequence = standing._sequence
            and winners.batch_id = standing.batch_id
            and winners._source > standing._source
        )
    {%- endif %}
)

select * from final
{%- endmacro %}

{#
    With partial columns a late change may set a column though it is older than the row that stands.
    So the table also keeps, per partial column, the sequence that set it, and what stands takes
    part as events: the row itself, and one per partial column that an older change had set.
#}
{% macro _cdc_current_partial(changes, keys, columns, partial) -%}
{%- set key_list = keys | join(', ') -%}
{%- set whole = columns | reject('in', realtime_insights._quoted(partial)) | list -%}
with

new_changes as (
    {{ realtime_insights._changes_in_window(changes, keys, columns, partial) }}
),

{%- if is_incremental() %}

standing as (
    select state.*
    from {{ this }} as state
    inner join (select distinct {{ key_list }} from new_changes) as touched
        on
            {%- for key in keys %}
            {{ 'and ' if not loop.first }}state.{{ key }} = touched.{{ key }}
            {%- endfor %}
),
{%- endif %}

events as (
    select
        *,
        true as _is_row
    from new_changes
    {%- if is_incremental() %}
    union all
    select
        {%- for column in keys + columns %}
        {{ column }},
        {%- endfor %}
        {%- for column in partial %}
        _{{ column }}_sequence = _sequence as _has_{{ column }},
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        {{ column }},
        {%- endfor %}
        true as _is_row
    from standing
    {%- for set_column in partial %}
    union all
    select
        {%- for column in keys + columns %}
        {{ column }},
        {%- endfor %}
        {%- for column in partial %}
        {{ 'true' if column == set_column else 'false' }} as _has_{{ column }},
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        {{ '_' ~ set_column ~ '_sequence as ' if column == '_sequence' }}{{ column }},
        {%- endfor %}
        false as _is_row
    from standing
    where _{{ set_column }}_sequence < _sequence
    {%- endfor %}
    {%- endif %}
),

ranked as (
    select
        *,
        {%- for column in partial %}
        row_number() over (
            partition by {{ key_list }}
            order by
                case when _has_{{ column }} or _is_deleted then 0 else 1 end,
                _sequence desc, {{ realtime_insights._arrival_order(' desc') }}
        ) as _{{ column }}_rank,
        {%- endfor %}
        row_number() over (
            partition by {{ key_list }}
            order by
                case when _is_row then 0 else 1 end,
                _sequence desc, {{ realtime_insights._arrival_order(' desc') }}
        ) as _row_rank
    from events
),

final as (
    select
        {%- for key in keys %}
        {{ key }},
        {%- endfor %}
        {%- for column in whole %}
        max(case when _row_rank = 1 and not _is_deleted then {{ column }} end) as {{ column }},
        {%- endfor %}
        {%- for column in partial %}
        max(
            case
                when _{{ column }}_rank = 1 and _has_{{ column }} and not _is_deleted
                    then {{ adapter.quote(column) }}
            end
        ) as {{ adapter.quote(column) }},
        max(
            case
                when _{{ column }}_rank = 1 and (_has_{{ column }} or _is_deleted) then _sequence
            end
        ) as _{{ column }}_sequence,
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        max(case when _row_rank = 1 then {{ column }} end) as {{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from ranked
    group by {{ key_list }}
)

select * from final
{%- endmacro %}

{# The usable changes of this run's window, from one or several staging relations. #}
{% macro _changes_in_window(changes, keys, columns, partial=[]) -%}
    {%- set window = realtime_insights.in_window() -%}
    {%- for relation in changes %}
    {{ 'union all' if not loop.first }}
    select
        {%- for column in keys + columns %}
        {{ column }},
        {%- endfor %}
        {%- for column in partial %}
        _has_{{ column }},
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        {{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ relation }}
    where _reject_reason is null and {{ window }}
    {%- endfor %}
{%- endmacro %}

{# Names as identifiers: a source may call a column `at` or `order`. #}
{% macro _quoted(names) -%}
    {%- set quoted = [] -%}
    {%- for name in names -%} {%- do quoted.append(adapter.quote(name)) -%} {%- endfor -%}
    {{ return(quoted) }}
{%- endmacro %}

{# What the state tables keep of a change beside its business columns. #}
{% macro _state_columns() -%}
    {{ return([
        '_is_deleted', '_sequence', '_changed_at', '_feed', 'batch_id',
        '_source', '_partition', '_position',
    ]) }}
{%- endmacro %}

{# Arrival in bronze, as columns to order by. Within one batch, the same at every rebuild. #}
{% macro _arrival_order(direction='', prefix='') -%}
    {%- for column in ['batch_id', '_source', '_partition', '_position'] -%}
        {{ prefix }}{{ column }}{{ direction }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
