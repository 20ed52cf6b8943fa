{#
    CTEs that end with `changes`: what a series of full extracts says has changed. A row of a version
    that differs from the version before, or was not there, is an upsert; a key that the next version
    lacks is deleted as of that version. What stands takes the part of the version before the first.

    Every version leaves a row without keys: the greatest one is the last version that was applied. A
    row that cannot be used still says that its key is there.
#}
{% macro _snapshot_changes(options, batch) -%}
{%- set keys = realtime_insights._quoted(options['keys']) -%}
{%- set columns = realtime_insights._quoted(options['keys'] + batch.columns) -%}
{%- set state_columns = realtime_insights._state_columns() -%}
{%- set by_key = 'partition by ' ~ keys | join(', ') ~ ' order by _sequence' -%}
extracted as (
    select
        {{ columns | join(', ') }},
        {{ state_columns | join(', ') }},
        _unusable is null as _is_usable,
        true as _is_new
    from {{ batch.relation }}
    where
        _sequence is not null
        {%- for key in keys %}
        and {{ key }} is not null
        {%- endfor %}
    qualify row_number() over (
        partition by {{ keys | join(', ') }}, _sequence
        order by case when _unusable is null then 0 else 1 end, {{ realtime_insights._arrival_order(' desc') }}
    ) = 1
),

{%- if is_incremental() %}

last_version as (
    select max(_sequence) as _sequence
    from {{ this }}
    where {{ keys[0] }} is null
),

present as (
    select
        {%- for column in options['keys'] + batch.columns %}
        {{ realtime_insights._null_of(column, batch) ~ ' as ' if column in batch.new else 'state.' }}{{ adapter.quote(column) }},
        {%- endfor %}
        {%- for column in state_columns %}
        {{ 'last_version' if column == '_sequence' else 'state' }}.{{ column }},
        {%- endfor %}
        true as _is_usable,
        false as _is_new
    from {{ this }} as state
    cross join last_version
    where
        state.{{ keys[0] }} is not null
        and {{ 'state._is_version and state.valid_to is null' if options.kind == 'history' else 'not state._is_deleted' }}
        and not exists (
            select 1
            from extracted
            where
                extracted._sequence = last_version._sequence
                and {{ realtime_insights._same_keys(options['keys'], 'extracted', 'state') }}
        )
),
{%- endif %}

rows_of_versions as (
    select * from extracted
    {%- if is_incremental() %}
    union all
    select * from present
    {%- endif %}
),

versions as (
    select
        _sequence,
        lag(_sequence) over (order by _sequence) as _previous,
        lead(_sequence) over (order by _sequence) as _next,
        {%- for column in state_columns if column not in ['_sequence', '_is_deleted'] %}
        max({{ column }}) as {{ column }},
        {%- endfor %}
        max(case when _is_new then 1 else 0 end) = 1 as _is_new
    from rows_of_versions
    group by _sequence
),

compared_rows as (
    select
        rows_of_versions.*,
        versions._next,
        lead(rows_of_versions._sequence) over ({{ by_key | replace('_sequence', 'rows_of_versions._sequence') }}) as _next_of_key,
        (
            lag(rows_of_versions._sequence) over ({{ by_key | replace('_sequence', 'rows_of_versions._sequence') }}) is distinct from versions._previous
            or versions._previous is null
            {%- for column in realtime_insights._quoted(batch.columns) %}
            or {{ column }} is distinct from lag({{ column }}) over ({{ by_key | replace('_sequence', 'rows_of_versions._sequence') }})
            {%- endfor %}
        ) as _has_changed
    from rows_of_versions
    inner join versions
        on rows_of_versions._sequence = versions._sequence
),

changes as (
    select
        {{ columns | join(', ') }},
        false as _is_deleted,
        {{ state_columns | reject('equalto', '_is_deleted') | join(', ') }}
    from compared_rows
    where _is_new and _is_usable and _has_changed
    union all
    select
        {%- for key in keys %}
        compared_rows.{{ key }},
        {%- endfor %}
        {%- for column in batch.columns %}
        {{ realtime_insights._null_of(column, batch) }} as {{ adapter.quote(column) }},
        {%- endfor %}
        true as _is_deleted,
        {%- for column in state_columns if column != '_is_deleted' %}
        versions.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from compared_rows
    inner join versions
        on compared_rows._next = versions._sequence
    where compared_rows._next_of_key is distinct from compared_rows._next
    union all
    select
        {%- for column in options['keys'] + batch.columns %}
        {{ realtime_insights._null_of(column, batch) }} as {{ adapter.quote(column) }},
        {%- endfor %}
        true as _is_deleted,
        {{ state_columns | reject('equalto', '_is_deleted') | join(', ') }}
    from versions
    where _is_new
)
{%- endmacro %}

{# Refuses a snapshot that is older than the last one that was applied. #}
{% macro _check_snapshot_order(options, relation) -%}
    {%- set key = adapter.quote(options['keys'][0]) -%}
    {%- set late = run_query(
        'select cast(min(batch._sequence) as ' ~ dbt.type_string() ~ '), cast(max(applied._sequence) as '
        ~ dbt.type_string() ~ ') from ' ~ relation ~ ' as batch cross join (select max(_sequence) as _sequence from '
        ~ this ~ ' where ' ~ key ~ ' is null) as applied where batch._sequence < applied._sequence'
    ).rows[0] -%}
    {%- if late[0] is not none -%}
        {%- do exceptions.raise_compiler_error(
            'model ' ~ model.name ~ ': snapshot ' ~ late[0] ~ ' arrived after snapshot ' ~ late[1]
            ~ ' had been applied. Nothing was written. Fix: dbt run --full-refresh --select ' ~ model.name
            ~ ', which applies all snapshots in their order.'
        ) -%}
    {%- endif -%}
{%- endmacro %}
