{#
    Which batches a run reads.

    `open_feed_windows` (on-run-start) writes down, per feed, the newest batch that bronze holds
    now: no model of this run reads past it, so that all of them see the same changes.
    `feed_windows` tells a model its window per feed: the batches after the ones it has read before
    (its watermark), up to that mark. `record_watermarks` (post-hook) moves the watermark, in the
    model's own transaction where the engine has them; where it has none, a crash between the two
    means that a batch is read twice, which changes nothing.
#}
{% macro open_feed_windows() -%}
    {%- if execute and flags.WHICH in ('build', 'run') -%}
        {%- set windows = realtime_insights.run_state_relation('feed_windows') -%}
        {%- set watermarks = realtime_insights.run_state_relation('cdc_watermarks') -%}
        {%- do adapter.create_schema(windows.without_identifier()) -%}
        {%- do run_query(
            'create table if not exists ' ~ windows ~ ' (
                invocation_id ' ~ dbt.type_string() ~ ',
                feed ' ~ dbt.type_string() ~ ',
                batch_id bigint,
                opened_at timestamp
            )'
        ) -%}
        {%- do run_query(
            'create table if not exists ' ~ watermarks ~ ' (
                invocation_id ' ~ dbt.type_string() ~ ',
                model ' ~ dbt.type_string() ~ ',
                feed ' ~ dbt.type_string() ~ ',
                batch_id bigint,
                recorded_at timestamp
            )'
        ) -%}
        {%- set newest = [] -%}
        {%- for feed in graph.sources.values() if feed.source_name == 'bronze' and feed.name != 'quarantine' -%}
            {%- do newest.append(
                "select '" ~ feed.name ~ "' as feed, max(batch_id) as batch_id from "
                ~ source('bronze', feed.name)
            ) -%}
        {%- endfor -%}
        {%- do run_query(
            'insert into ' ~ windows ~ " select '" ~ invocation_id
            ~ "', feed, coalesce(batch_id, 0), " ~ realtime_insights.utc_now() ~ ' from ('
            ~ newest | join(' union all ') ~ ') as newest'
        ) -%}
    {%- endif -%}
{%- endmacro %}

{# The relation that holds one kind of run state; see `open_feed_windows`. #}
{% macro run_state_relation(name) -%}
    {{ return(api.Relation.create(
        database=target.database,
        schema=generate_schema_name('observability', none),
        identifier=name,
    )) }}
{%- endmacro %}

{# The feeds (bronze sources) that a model reads, directly or through staging views. #}
{% macro feeds_of(node) -%}
    {%- set feeds = [] -%}
    {%- for parent in node.depends_on.nodes -%}
        {%- if parent in graph.sources and graph.sources[parent].source_name == 'bronze' -%}
            {%- do feeds.append(graph.sources[parent].name) -%}
        {%- elif parent in graph.nodes and graph.nodes[parent].config.materialized == 'view' -%}
            {%- do feeds.extend(realtime_insights.feeds_of(graph.nodes[parent])) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(feeds | unique | sort) }}
{%- endmacro %}

{#
    A condition on staging rows: the batches that this run has to apply to `this`. On a first build
    and on a full refresh that is everything up to the run's mark.
#}
{% macro in_window() -%}
    {%- if not execute or flags.WHICH not in ('build', 'run') -%} {{ return('true') }} {%- endif -%}
    {%- set marks = run_query(
        'select feed, batch_id from ' ~ realtime_insights.run_state_relation('feed_windows')
        ~ " where invocation_id = '" ~ invocation_id ~ "'"
    ) -%}
    {%- set read = {} -%}
    {%- if is_incremental() -%}
        {%- set watermarks = run_query(
            'select feed, batch_id from ' ~ realtime_insights.run_state_relation('cdc_watermarks')
            ~ " where model = '" ~ model.unique_id ~ "'"
            ~ " qualify row_number() over (partition by feed order by recorded_at desc) = 1"
        ) -%}
        {%- for row in watermarks.rows -%} {%- do read.update({row[0]: row[1]}) -%} {%- endfor -%}
    {%- endif -%}
    {%- set conditions = [] -%}
    {%- set feeds = realtime_insights.feeds_of(model) -%}
    {%- for row in marks.rows if row[0] in feeds -%}
        {%- set after = read.get(row[0], 0) | int -%}
        {%- set upto = row[1] | int -%}
        {%- if after > upto -%}
            {%- do exceptions.raise_compiler_error(
                this ~ ' has read feed ' ~ row[0] ~ ' up to batch ' ~ after ~ ', but bronze holds only '
                ~ upto ~ ' batches: bronze was made anew. Rebuild with --full-refresh.'
            ) -%}
        {%- elif after < upto -%}
            {%- do conditions.append(
                "(_feed = '" ~ row[0] ~ "' and batch_id > " ~ after ~ ' and batch_id <= ' ~ upto ~ ')'
            ) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return('(' ~ (conditions | join(' or ') or 'false') ~ ')') }}
{%- endmacro %}

{% macro record_watermarks() -%}
    {%- if execute -%}
    insert into {{ realtime_insights.run_state_relation('cdc_watermarks') }}
    select
        invocation_id,
        '{{ model.unique_id }}' as model,
        feed,
        batch_id,
        {{ realtime_insights.utc_now() }} as recorded_at
    from {{ realtime_insights.run_state_relation('feed_windows') }}
    where
        invocation_id = '{{ invocation_id }}'
        and feed in ('{{ realtime_insights.feeds_of(model) | join("', '") }}')
    {%- endif -%}
{%- endmacro %}
