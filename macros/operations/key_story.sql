{#
    dbt run-operation key_story --args '{table: customers_state, key: {customer_id: 7}}'

    Replays one key from bronze and shows its story: every record of it in the order of its
    sequence, when it arrived, what it did to the table and why; then what the table holds, and
    whether that is what the records say.
#}
{% macro key_story(table, key) -%}
    {%- if execute -%}
        {%- set node = realtime_insights._cdc_nodes(table)[0] -%}
        {%- do realtime_insights.print_rows(run_query(realtime_insights._story_sql(node, key))) -%}
        {%- set checked = run_query(realtime_insights._story_check_sql(node, key)).rows[0] -%}
        {%- do print(
            table ~ ' holds ' ~ checked[0] ~ ' row(s) of this key and '
            ~ ('agrees' if checked[1] else 'DOES NOT agree') ~ ' with the records.'
        ) -%}
    {%- endif -%}
{%- endmacro %}

{# The records of one key that bronze holds, as the table's staging views give them. #}
{% macro _story_records(node, key) -%}
    {%- set cdc = node.config.meta.cdc -%}
    {%- if key is not mapping or key.keys() | sort != cdc['keys'] | sort -%}
        {%- do exceptions.raise_compiler_error(
            'key: name a value for each of ' ~ cdc['keys'] | join(', ') ~ ", e.g. key: {" ~ cdc['keys'][0] ~ ': 7}'
        ) -%}
    {%- endif -%}
    {%- set selects = [] -%}
    {%- for parent in node.depends_on.nodes if parent in graph.nodes
            and (graph.nodes[parent].config.materialized == 'view') -%}
        {%- set select -%}
            select
                {{ realtime_insights._sequence_of(cdc) }} as _sequence,
                _op,
                {{ 'coalesce(' ~ cdc.delete_when ~ ', false)' if cdc.delete_when else 'false' }} as _is_deleted,
                _reject_reason,
                _changed_at,
                _ingested_at,
                _feed,
                batch_id,
                _source,
                _partition,
                _position
            from {{ realtime_insights._relation_of(graph.nodes[parent]) }}
            where {{ realtime_insights._is_key(key) }}
        {%- endset -%}
        {%- do selects.append(select) -%}
    {%- endfor -%}
    {{ selects | join(' union all ') }}
{%- endmacro %}

{% macro _is_key(key) -%}
    {%- for name, value in key.items() -%}
        {{ ' and ' if not loop.first }}cast({{ adapter.quote(name) }} as {{ dbt.type_string() }}) = {{ realtime_insights.text_literal(value) }}
    {%- endfor -%}
{%- endmacro %}

{% macro _story_sql(node, key) -%}
with

records as (
    {{ realtime_insights._story_records(node, key) }}
),

placed as (
    select
        *,
        row_number() over (order by {{ realtime_insights._arrival_order() }}) as arrival
    from records
),

judged as (
    select
        *,
        max(case when _reject_reason is null then _sequence end) over (
            order by arrival rows between unbounded preceding and 1 preceding
        ) as newest_before,
        lead(arrival) over (
            partition by _sequence order by case when _reject_reason is null then 1 else 0 end, arrival
        ) as replaced_by,
        max(case when _reject_reason is null then _sequence end) over () as newest
    from placed
)

select
    cast(_sequence as {{ dbt.type_string() }}) as sequence,
    _op as op,
    case
        when _reject_reason is not null or _sequence is null then 'left out'
        when replaced_by is not null then 'replaced'
        when _sequence = newest and _is_deleted then 'deleted the row'
        when _sequence = newest then 'stands'
        {%- if node.config.meta.cdc.kind == 'history' %}
        when _is_deleted then 'closed a version'
        else 'part of the history'
        {%- else %}
        when newest_before > _sequence then 'ignored'
        when _is_deleted then 'deleted the row, until a newer change'
        else 'stood, until a newer change'
        {%- endif %}
    end as outcome,
    case
        when _reject_reason is not null then _reject_reason
        when _sequence is null then 'it has no sequence'
        when replaced_by is not null
            then 'record ' || cast(replaced_by as {{ dbt.type_string() }}) || ' has the same sequence and arrived later'
        when newest_before > _sequence
            then 'it arrived late: ' || cast(newest_before as {{ dbt.type_string() }}) || ' was there'
        when _sequence = newest then 'no record of this key has a greater sequence'
        else 'it was the newest when it arrived'
    end as why,
    arrival as record,
    cast(_changed_at as {{ dbt.type_string() }}) as changed_at,
    cast(_ingested_at as {{ dbt.type_string() }}) as landed_at,
    _feed as feed,
    batch_id as batch,
    _source || ':' || cast(_partition as {{ dbt.type_string() }}) || ':' || cast(_position as {{ dbt.type_string() }}) as address
from judged
order by _sequence, arrival
{%- endmacro %}

{# How many rows of the key the table holds, and whether its newest one is that of the records. #}
{% macro _story_check_sql(node, key) -%}
with

records as (
    {{ realtime_insights._story_records(node, key) }}
),

newest_record as (
    select
        _sequence,
        _is_deleted
    from records
    where _reject_reason is null and _sequence is not null
    qualify row_number() over (order by _sequence desc, {{ realtime_insights._arrival_order(' desc') }}) = 1
),

held as (
    select
        _sequence,
        _is_deleted
    from {{ realtime_insights._relation_of(node) }}
    where {{ realtime_insights._is_key(key) }}
),

newest_held as (
    select *
    from held
    qualify row_number() over (order by _sequence desc) = 1
),

counted as (
    select
        (select count(*) from held) as rows_held,
        (select count(*) from newest_record) as records,
        (
            select count(*)
            from newest_record
            inner join newest_held
                on
                    newest_record._sequence = newest_held._sequence
                    and newest_record._is_deleted = newest_held._is_deleted
        ) as agreeing
)

select
    rows_held,
    agreeing = records and (records > 0 or rows_held = 0) as agrees
from counted
{%- endmacro %}

{# Prints the rows of a query as a table, whole. #}
{% macro print_rows(results) -%}
    {%- set lines = [results.column_names | list] -%}
    {%- for row in results.rows -%}
        {%- set cells = [] -%}
        {%- for value in row -%} {%- do cells.append('' if value is none else value | string) -%} {%- endfor -%}
        {%- do lines.append(cells) -%}
    {%- endfor -%}
    {%- set widths = [] -%}
    {%- for _ in results.column_names -%}
        {%- do widths.append(lines | map(attribute=loop.index0) | map('length') | max) -%}
    {%- endfor -%}
    {%- for line in lines -%}
        {%- set padded = [] -%}
        {%- for cell in line -%} {%- do padded.append(cell.ljust(widths[loop.index0])) -%} {%- endfor -%}
        {%- do print(padded | join(' | ')) -%}
    {%- endfor -%}
{%- endmacro %}
