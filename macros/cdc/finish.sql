{#
    What a CDC table does after it was written: post-hooks, each one statement, in the model's own
    transaction where the engine has them. The watermark moves last, so that a crash before it means
    that the batch is applied again, which changes nothing.
#}

{#
    Counts what became of every record that this run read for this table:

        changes_read = quarantined + duplicates + stale + upserted + deleted + truncates

    stale        older than what stands or than another change of its key (only in current tables:
                 a history has a place for every change)
    duplicates   the same key and sequence as another record, or as what stands
    cleared      rows that a truncate deleted; no records of their own
    For snapshots, rows that say what stood already count as duplicates, and a delete has no record.
#}
{% macro log_changes() -%}
{%- if execute -%}
{%- set cdc = model.config.meta.cdc -%}
{%- set keys = realtime_insights._quoted(cdc['keys']) -%}
{%- set batch = realtime_insights.cdc_batch_relation() -%}
{%- set state = realtime_insights._run_state() -%}
{%- set run_number = state.run_number -%}
{%- if realtime_insights._notes().get('nothing_new') -%}
insert into {{ realtime_insights.run_state_relation('cdc_log') }} values (
    {{ run_number }}, '{{ invocation_id }}', '{{ model.name }}', 'success', 0, 0, 0, 0, 0, 0, 0, 0,
    {{ realtime_insights.utc_now() }}
)
{%- else -%}
{%- set is_built_whole = not state.read or should_full_refresh() -%}
insert into {{ realtime_insights.run_state_relation('cdc_log') }}
with

usable as (
    select *
    from {{ batch }}
    where _unusable is null and not _is_truncate
),

read as (
    select
        count(*) as changes_read,
        count(_unusable) as quarantined,
        coalesce(sum(case when _is_truncate and _unusable is null then 1 else 0 end), 0) as truncates
    from {{ batch }}
),

written as (
    select
        coalesce(sum(case when not state._is_deleted then 1 else 0 end), 0) as upserted,
        coalesce(sum(case when state._is_deleted then 1 else 0 end), 0) as deleted
    from {{ this }} as state
    {%- if cdc.is_snapshot %}
    where
        state._applied_run = {{ run_number }} and state.{{ keys[0] }} is not null
        and exists (
            select 1 from usable
            where state._source = usable._source and state.batch_id = usable.batch_id
        )
    {%- elif is_built_whole and not cdc.truncate_when %}
    {#- Nothing stood: every row is one of this batch. -#}
    {%- else %}
    inner join usable
        on
            state._position = usable._position
            and state._source = usable._source
            and state._partition = usable._partition
            and state.batch_id = usable.batch_id
            and state._feed = usable._feed
            and {{ realtime_insights._same_keys(cdc['keys'], 'state', 'usable') }}
    where state._applied_run = {{ run_number }}
    {%- endif %}
),

cleared as (
    select count(*) as cleared
    from {{ this }} as state
    inner join {{ batch }} as truncates
        on
            state._position = truncates._position
            and state._source = truncates._source
            and state._partition = truncates._partition
    where
        truncates._is_truncate and state._applied_run = {{ run_number }}
        and state.{{ keys[0] }} is not null
),

distinct_changes as (
    select
        {{ keys | join(', ') }},
        _sequence
    from usable
    group by {{ keys | join(', ') }}, _sequence
),

newest as (
    select
        {{ keys | join(', ') }},
        max(_sequence) as _sequence
    from distinct_changes
    group by {{ keys | join(', ') }}
),

repeated as (
    select count(*) as repeated
    from newest
    inner join {{ this }} as state
        on
            {{ realtime_insights._same_keys(cdc['keys'], 'newest', 'state') }}
            and newest._sequence = state._sequence
    where state._applied_run <> {{ run_number }}
),

counted as (
    select
        read.*,
        read.changes_read - read.quarantined - read.truncates as usable,
        (select count(*) from distinct_changes) as distinct_changes,
        written.*,
        cleared.cleared,
        repeated.repeated
    from read
    cross join written
    cross join cleared
    cross join repeated
)

select
    {{ run_number }} as run_number,
    '{{ invocation_id }}' as invocation_id,
    '{{ model.name }}' as model,
    'success' as status,
    changes_read,
    quarantined,
    {%- if cdc.is_snapshot %}
    usable - upserted as duplicates,
    0 as stale,
    {%- elif cdc.kind == 'history' %}
    usable - upserted - deleted as duplicates,
    0 as stale,
    {%- else %}
    usable - distinct_changes + repeated as duplicates,
    distinct_changes - repeated - upserted - deleted as stale,
    {%- endif %}
    upserted,
    deleted,
    truncates,
    cleared,
    {{ realtime_insights.utc_now() }} as recorded_at
from counted
{%- endif -%}
{%- endif -%}
{%- endmacro %}

{# Keeps, with the reason, the changes that this table alone cannot use; staging knows the others. #}
{% macro keep_unusable_changes() -%}
{%- if execute and not realtime_insights._notes().get('nothing_new') -%}
insert into {{ realtime_insights.run_state_relation('cdc_unusable') }}
select
    '{{ model.name }}' as model,
    batch._feed as feed,
    batch.batch_id,
    batch._source as source,
    batch._partition as source_partition,
    batch._position as source_position,
    batch._unusable as reason,
    {{ realtime_insights._run_state().run_number }} as run_number,
    {{ realtime_insights.utc_now() }} as recorded_at
from {{ realtime_insights.cdc_batch_relation() }} as batch
left join {{ realtime_insights.run_state_relation('cdc_unusable') }} as kept
    on
        kept.model = '{{ model.name }}'
        and batch._feed = kept.feed
        and batch._source = kept.source
        and batch._partition = kept.source_partition
        and batch._position = kept.source_position
where batch._unusable like 'no % for this table' and kept.model is null
{%- endif -%}
{%- endmacro %}

{# Writes down what the table was built as, where that is not what was written down before. #}
{% macro record_definition() -%}
    {%- if execute -%}
        {%- set state = realtime_insights._run_state() -%}
        {%- set definition = realtime_insights._notes().get('definition', state.definition) -%}
        {%- if definition != state.definition -%}
            insert into {{ realtime_insights.run_state_relation('cdc_tables') }} values (
                '{{ model.unique_id }}', {{ realtime_insights.text_literal(definition) }}, {{ state.run_number }}
            )
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{# The back-fills that this run applied are not applied again. #}
{% macro record_back_fills() -%}
    {%- if execute and realtime_insights._notes().get('back_fills') -%}
        insert into {{ realtime_insights.run_state_relation('cdc_watermarks') }}
        select distinct
            '{{ model.unique_id }}' as model,
            _feed as feed,
            cast(1 as bigint) as batch_id,
            cast(null as bigint) as first_batch_id,
            cast({{ realtime_insights._run_state().run_number }} as bigint) as run_number,
            {{ realtime_insights.utc_now() }} as recorded_at
        from {{ realtime_insights.cdc_batch_relation() }}
        where _feed like 'once:%'
    {%- endif -%}
{%- endmacro %}

{% macro drop_batch(suffix) -%}
    {%- set cdc = model.config.meta.cdc -%}
    {%- if execute and not realtime_insights._notes().get('nothing_new')
            and (suffix == '__batch' or cdc.is_snapshot or cdc.truncate_when) -%}
        drop table if exists {{ realtime_insights.cdc_batch_relation(suffix) }}
    {%- endif -%}
{%- endmacro %}

{# Writes down, at the end of a run, the CDC tables that were not written: an on-run-end hook. #}
{% macro close_run(results) -%}
    {%- if execute and flags.WHICH in ('build', 'run') -%}
        {%- set rows = [] -%}
        {%- for result in results
                if result.node.resource_type == 'model' and result.node.config.meta.get('cdc')
                and result.status in ('error', 'skipped') -%}
            {%- do rows.append("'" ~ result.node.name ~ "', '" ~ result.status ~ "'") -%}
        {%- endfor -%}
        {%- if rows -%}
            {%- set windows = realtime_insights.run_state_relation('run_windows') -%}
            insert into {{ realtime_insights.run_state_relation('cdc_log') }}
            select
                run_number,
                '{{ invocation_id }}' as invocation_id,
                model,
                status,
                {%- for count in ['changes_read', 'quarantined', 'duplicates', 'stale', 'upserted',
                                  'deleted', 'truncates', 'cleared'] %}
                cast(null as bigint) as {{ count }},
                {%- endfor %}
                {{ realtime_insights.utc_now() }} as recorded_at
            from (select max(run_number) as run_number from {{ windows }}) as runs
            cross join (values ({{ rows | join('), (') }})) as missing (model, status)
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
