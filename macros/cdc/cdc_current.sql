{#
    The current state of every key of a change stream (slowly changing dimension, type 1).

    One row per key with the values of its greatest sequence, whatever order the changes arrive in.
    A deleted key stays as a tombstone: key, sequence and `_is_deleted`, every other column NULL, so
    that a late change older than the delete does not bring it back. Consumers read a view without
    tombstones. Of two changes with the same sequence the later arrival counts.

    An incremental run reads only the batches after the model's watermark and returns only rows that
    differ from what stands, to be written by the `cdc` strategy.

    changes     staging relation with the change columns, or a list of several
    keys        list of key columns
    columns     list of the other columns to write; default: all of the changes'
    except_columns   instead of `columns`: all but these
    sequence    column, or list of columns compared in order; default: `_sequence`
    delete_when      condition under which a change deletes; default: `_is_deleted`; none: every
                     change is an upsert
    truncate_when    condition under which a record, which has no key, empties the table of all that
                     is older than it
    partial     list of the columns that a change may leave unset, which it says in `_has_<column>`
    ignore_null_updates          true, or a list of columns: NULL leaves what stands, also in the
                                 fields of a struct
    ignore_null_updates_except   instead: all but these columns
    updated_columns   array column that names the columns which this record sets; NULL: all
    once        relation, or several, with keys, columns and sequence: a historical extract, applied
                once beside the changes
    snapshots   instead of `changes`: staging relation of full extracts, whose version is `sequence`.
                A key that is missing from the next version is deleted
    subject     whose rows these are, for the marts: the column of the customer and, optionally, a
                time whose month matters, e.g. {'customer': 'customer_id', 'at': 'transacted_at'}
#}
{% macro cdc_current(
    changes=none, keys=none, columns=none, except_columns=none, sequence='_sequence',
    delete_when='_is_deleted', truncate_when=none, partial=none,
    ignore_null_updates=false, ignore_null_updates_except=none, updated_columns=none,
    once=none, snapshots=none, subject=none
) -%}
    {%- set options = realtime_insights._cdc_options('current', {
        'changes': changes, 'keys': keys, 'columns': columns, 'except_columns': except_columns,
        'sequence': sequence, 'delete_when': delete_when, 'truncate_when': truncate_when,
        'partial': partial, 'ignore_null_updates': ignore_null_updates,
        'ignore_null_updates_except': ignore_null_updates_except,
        'updated_columns': updated_columns, 'once': once, 'snapshots': snapshots, 'subject': subject,
    }, kwargs.keys()) -%}
    {{- realtime_insights._cdc_config(options, unique_key=options['keys']) -}}
    {%- if execute -%}
        {%- set batch = realtime_insights._cdc_batch(options) -%}
        {%- if batch.is_empty -%}
            select * from {{ this }} where false
        {%- elif batch.slots -%}
            {{ realtime_insights._cdc_current_partial(options, batch) }}
        {%- else -%}
            {{ realtime_insights._cdc_current_whole(options, batch) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{% macro _cdc_current_whole(options, batch) -%}
{%- set keys = realtime_insights._quoted(options['keys']) -%}
{%- set null_safe = options.truncate_when is not none or options.snapshots is not none -%}
with

{{ realtime_insights._cdc_changes(options, batch) }},

newest as (
    select
        {{ keys | join(', ') }},
        max(_sequence) as _sequence
    from changes
    group by {{ keys | join(', ') }}
),

newest_changes as (
    select changes.*
    from changes
    inner join newest
        on
            {{ realtime_insights._same_keys(options['keys'], 'changes', 'newest', null_safe) }}
            and changes._sequence = newest._sequence
),

winners as (
    select *
    from newest_changes
    qualify row_number() over (
        partition by {{ keys | join(', ') }} order by {{ realtime_insights._arrival_order(' desc') }}
    ) = 1
),

final as (
    select
        {%- for column in keys + realtime_insights._quoted(batch.columns) %}
        winners.{{ column }},
        {%- endfor %}
        {{- realtime_insights._vanished_columns(batch) }}
        {%- for column in realtime_insights._state_columns() %}
        winners.{{ column }},
        {%- endfor %}
        cast({{ batch.run_number }} as bigint) as _applied_run
    from winners
    {%- if is_incremental() %}
    left join {{ this }} as standing
        on
            {{ realtime_insights._same_keys(options['keys'], 'winners', 'standing', null_safe) }}
    where
        standing._sequence is null
        or (
            {{ realtime_insights._is_later('winners', 'standing') | indent(8) }}
            and ({{ realtime_insights._differs(batch, 'winners', 'standing') }}
            )
        )
    {%- endif %}
)

select * from final
{%- endmacro %}

{#
    With slots a late change may set a value though it is older than the row that stands. So the
    table also keeps, per slot, the sequence that set it, and what stands takes part as events: the
    row itself, and one per slot that an older change had set.
#}
{% macro _cdc_current_partial(options, batch) -%}
{%- set keys = realtime_insights._quoted(options['keys']) -%}
{%- set null_safe = options.truncate_when is not none -%}
{%- set kept = batch.slots | map(attribute='column') | unique | list -%}
{%- set whole = batch.columns | reject('in', kept) | list -%}
{%- set event_columns = options['keys'] + batch.columns -%}
with

{{ realtime_insights._cdc_changes(options, batch) }},

{%- if is_incremental() %}

standing as (
    select state.*
    from {{ this }} as state
    inner join (select distinct {{ keys | join(', ') }} from changes) as touched
        on
            {{ realtime_insights._same_keys(options['keys'], 'state', 'touched', null_safe) }}
),
{%- endif %}

events as (
    select
        {{ realtime_insights._quoted(event_columns) | join(', ') }},
        {%- for slot in batch.slots %}
        _has_{{ slot.name }},
        {%- endfor %}
        {{ realtime_insights._state_columns() | join(', ') }},
        true as _is_row
    from changes
    {%- if is_incremental() %}
    union all
    select
        {{ realtime_insights._standing_columns(batch, event_columns) }}
        {%- for slot in batch.slots %}
        {{ 'false' if slot.column in batch.new else 'coalesce(_' ~ slot.name ~ '_sequence = _sequence, false)' }} as _has_{{ slot.name }},
        {%- endfor %}
        {{ realtime_insights._state_columns() | join(', ') }},
        true as _is_row
    from standing
    {%- for set_slot in batch.slots if set_slot.column not in batch.new %}
    union all
    select
        {{ realtime_insights._standing_columns(batch, event_columns) }}
        {%- for slot in batch.slots %}
        {{ 'true' if slot.name == set_slot.name else 'false' }} as _has_{{ slot.name }},
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        {{ '_' ~ set_slot.name ~ '_sequence as ' if column == '_sequence' }}{{ column }},
        {%- endfor %}
        false as _is_row
    from standing
    where _{{ set_slot.name }}_sequence < _sequence
    {%- endfor %}
    {%- endif %}
),

ordered as (
    select
        *,
        row_number() over (
            partition by {{ keys | join(', ') }}
            order by _sequence, {{ realtime_insights._arrival_order() }}
        ) as _place
    from events
),

{%- set row_fields = {} -%}
{%- for column in whole + realtime_insights._state_columns() -%}
    {%- do row_fields.update({column: adapter.quote(column)}) -%}
{%- endfor %}

picked as (
    select
        {%- for key in keys %}
        {{ key }},
        {%- endfor %}
        {%- for slot in batch.slots %}
        max_by(
            {{ realtime_insights.struct_of({
                'value': realtime_insights._field(slot.path), 'set_by': '_sequence',
            }) }},
            case when _has_{{ slot.name }} or _is_deleted then _place end
        ) as _slot_{{ slot.name }},
        {%- endfor %}
        max_by({{ realtime_insights.struct_of(row_fields) }}, case when _is_row then _place end) as _row
    from ordered
    group by {{ keys | join(', ') }}
),

{%- set values = {} -%}
{%- for slot in batch.slots -%}
    {%- do values.update({slot.name: '_slot_' ~ slot.name ~ '.value'}) -%}
{%- endfor %}

winners as (
    select
        {%- for key in keys %}
        {{ key }},
        {%- endfor %}
        {%- for column in batch.columns %}
        {{ realtime_insights._from_slots([column], batch.slots, values)
            if column in kept else '_row.' ~ adapter.quote(column) }} as {{ adapter.quote(column) }},
        {%- endfor %}
        {%- for slot in batch.slots %}
        _slot_{{ slot.name }}.set_by as _{{ slot.name }}_sequence,
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        _row.{{ column }} as {{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from picked
),

final as (
    select
        {%- for column in keys + realtime_insights._quoted(batch.columns) %}
        winners.{{ column }},
        {%- endfor %}
        {{- realtime_insights._vanished_columns(batch) }}
        {%- for slot in batch.slots %}
        winners._{{ slot.name }}_sequence,
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        winners.{{ column }},
        {%- endfor %}
        cast({{ batch.run_number }} as bigint) as _applied_run
    from winners
    {%- if is_incremental() %}
    left join standing
        on
            {{ realtime_insights._same_keys(options['keys'], 'winners', 'standing', null_safe) }}
    where
        standing._sequence is null
        {%- for slot in batch.slots if slot.column not in batch.new %}
        or winners._{{ slot.name }}_sequence is distinct from standing._{{ slot.name }}_sequence
        {%- endfor %}
        or {{ realtime_insights._differs(batch, 'winners', 'standing') }}
    {%- endif %}
)

select * from final
{%- endmacro %}

{# CTEs that end with `changes`: what this run applies, one row per change. #}
{% macro _cdc_changes(options, batch) -%}
{%- if batch.changes is defined -%}
changes as (
    select * from {{ batch.changes }}
)
{%- elif options.snapshots is not none -%}
    {{ realtime_insights._snapshot_changes(options, batch) }}
{%- elif options.truncate_when is not none -%}
    {{ realtime_insights._truncated_changes(options, batch) }}
{%- else -%}
changes as (
    select *
    from {{ batch.relation }}
    where _unusable is null
)
{%- endif -%}
{%- endmacro %}

{#
    A truncate deletes every key whose newest change is older than it: those that stand, and those of
    this batch. It is itself kept as a row without keys, so that a change that comes later, but is
    older, is deleted as well.
#}
{% macro _truncated_changes(options, batch) -%}
{%- set keys = realtime_insights._quoted(options['keys']) -%}
landed as (
    select *
    from {{ batch.relation }}
    where _unusable is null
),

truncates as (
    select {{ realtime_insights._state_columns() | join(', ') }}
    from landed
    where _is_truncate
    {%- if is_incremental() %}
    union all
    select {{ realtime_insights._state_columns() | join(', ') }}
    from {{ this }}
    where {{ keys[0] }} is null
    {%- endif %}
),

last_truncate as (
    select *
    from truncates
    qualify row_number() over (order by _sequence desc, {{ realtime_insights._arrival_order(' desc') }}) = 1
),

truncated_keys as (
    select {{ keys | join(', ') }}
    from landed
    where not _is_truncate
    {%- if is_incremental() %}
    union
    select
        {%- for key in keys %}
        state.{{ key }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ this }} as state
    inner join last_truncate
        on {{ realtime_insights._is_later('last_truncate', 'state') | indent(8) }}
    where state.{{ keys[0] }} is not null and exists (select 1 from landed where _is_truncate)
    {%- else %}
    group by {{ keys | join(', ') }}
    {%- endif %}
),

changes as (
    select * from landed
    union all
    select
        {%- for key in keys %}
        truncated_keys.{{ key }},
        {%- endfor %}
        {%- for column in batch.columns %}
        {{ realtime_insights._null_of(column, batch) }} as {{ adapter.quote(column) }},
        {%- endfor %}
        {%- for slot in batch.slots %}
        true as _has_{{ slot.name }},
        {%- endfor %}
        {%- for column in realtime_insights._state_columns() %}
        last_truncate.{{ column }},
        {%- endfor %}
        false as _is_truncate,
        cast(null as {{ dbt.type_string() }}) as _unusable
    from truncated_keys
    cross join last_truncate
)
{%- endmacro %}

{# True where a row says something else than the row that stands. #}
{% macro _differs(batch, new, standing) %}
            {{ new }}._sequence <> {{ standing }}._sequence
            or {{ new }}._is_deleted <> {{ standing }}._is_deleted
            {%- for column in batch.columns %}
            or {{ new }}.{{ adapter.quote(column) }} is {{ 'not null' if column in batch.new
                else 'distinct from ' ~ standing ~ '.' ~ adapter.quote(column) }}
            {%- endfor %}
{%- endmacro %}

{# Columns of what stands as events; a column that the table does not have yet is NULL there. #}
{% macro _standing_columns(batch, columns, prefix='') -%}
    {%- for column in columns %}
        {{ realtime_insights._null_of(column, batch) ~ ' as ' if column in batch.new else prefix }}{{ adapter.quote(column) }},
    {%- endfor %}
{%- endmacro %}

{# A NULL of the type of a column. #}
{% macro _null_of(column, batch) -%}
    {{ return('cast(null as ' ~ batch.types[column] ~ ')' if column in batch.types else 'null') }}
{%- endmacro %}

{# Columns that only the table has: they stay, and are NULL in what is written. #}
{% macro _vanished_columns(batch) -%}
    {%- for column, type in batch.vanished.items() %}
        cast(null as {{ type }}) as {{ adapter.quote(column) }},
    {%- endfor %}
{%- endmacro %}

{#
    What makes a model a CDC table: how it is written, and what happens after. `meta.cdc` says how it
    is made, for the hooks, the operations and the documentation.
#}
{% macro _cdc_config(options, unique_key) -%}
    {%- set kept = {} -%}
    {%- for name, value in options.items() if name not in ['changes', 'snapshots', 'once'] -%}
        {%- do kept.update({name: value}) -%}
    {%- endfor -%}
    {{ config(
        materialized='incremental',
        incremental_strategy='cdc',
        unique_key=unique_key,
        liquid_clustered_by=options['keys'][:4],
        on_schema_change='append_new_columns',
        meta={'cdc': dict(kept, is_snapshot=options.snapshots is not none)},
        post_hook=[
            '{{ realtime_insights.log_changes() }}',
            '{{ realtime_insights.keep_unusable_changes() }}',
            '{{ realtime_insights.record_definition() }}',
            '{{ realtime_insights.record_watermarks() }}',
            '{{ realtime_insights.record_back_fills() }}',
            '{{ realtime_insights.drop_batch("__batch") }}',
            '{{ realtime_insights.drop_batch("__changes") }}',
        ],
    ) }}
{%- endmacro %}
