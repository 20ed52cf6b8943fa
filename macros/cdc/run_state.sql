{#
    Which batches a run reads, and what is remembered from run to run.

    `open_run` (on-run-start) numbers the run and writes down, per feed, the newest batch that bronze
    holds now: no model of this run reads past it, so that all of them see the same changes. A model
    reads the batches after its own watermark up to that mark. `record_watermarks` moves the
    watermark, in the model's own transaction where the engine has them; where it has none, a crash
    between the two means that a batch is read twice, which changes nothing.

    Tables, in the schema `observability`:

        runs            run_number, invocation_id, as_of_date (see the macro of this name), opened_at
        run_windows     run_number, invocation_id, feed, batch_id (newest then), opened_at
        cdc_watermarks  model, feed, batch_id (newest read), first_batch_id (of the last full build),
                        run_number, recorded_at; the greatest run_number counts
        cdc_tables      model, definition, run_number: what a table was built as
        cdc_log         one row per run and table; read the model `cdc_metrics`
        cdc_unusable    changes without key or sequence that a CDC table left out
        changed_subjects, recomputations, seeds_loaded   see macros/cdc/subject.sql and macros/marts
        expectation_log one row per run, staging model and expectation that judged something; read
                        the model `data_quality_metrics`
#}
{% macro open_run() -%}
    {%- if execute and flags.WHICH in ('build', 'run', 'seed') -%}
        {%- do realtime_insights._create_run_state() -%}
    {%- endif -%}
    {%- if execute and flags.WHICH in ('build', 'run') -%}
        {%- set runs = realtime_insights.run_state_relation('runs') -%}
        {%- set windows = realtime_insights.run_state_relation('run_windows') -%}
        {%- set known = {} -%}
        {%- set dates = [] -%}
        {%- set run_numbers = [0] -%}
        {%- for row in run_query(
            'select feed, max(batch_id), max(run_number), cast(null as ' ~ dbt.type_string() ~ ') from ' ~ windows
            ~ ' group by feed union all select null, null, max(run_number), cast(max(as_of_date) as '
            ~ dbt.type_string() ~ ') from ' ~ runs
        ).rows -%}
            {%- if row[0] is not none -%} {%- do known.update({row[0]: row[1] | int}) -%} {%- endif -%}
            {%- if row[2] is not none -%} {%- do run_numbers.append(row[2] | int) -%} {%- endif -%}
            {%- if row[3] is not none -%} {%- do dates.append(row[3] | string) -%} {%- endif -%}
        {%- endfor -%}
        {%- set run_number = run_numbers | max + 1 -%}

        {%- set newest = realtime_insights._newest_batches(known) -%}
        {%- set rows = [] -%}
        {%- for feed, batch in newest.items() -%}
            {%- do rows.append(
                '(' ~ run_number ~ ", '" ~ invocation_id ~ "', '" ~ feed ~ "', " ~ batch.batch_id ~ ', '
                ~ realtime_insights.utc_now() ~ ')'
            ) -%}
            {%- if batch.date is not none -%} {%- do dates.append(batch.date | string) -%} {%- endif -%}
        {%- endfor -%}
        {%- if rows -%} {%- do run_query('insert into ' ~ windows ~ ' values ' ~ rows | join(', ')) -%} {%- endif -%}
        {%- do run_query(
            'insert into ' ~ runs ~ ' values (' ~ run_number ~ ", '" ~ invocation_id ~ "', "
            ~ ("cast('" ~ dates | max ~ "' as date)" if dates else 'null') ~ ', ' ~ realtime_insights.utc_now() ~ ')'
        ) -%}
        {%- if run_number % 100 == 0 -%} {%- do realtime_insights._forget_old_runs(run_number) -%} {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{# Creates the tables of the run state that are not there yet. #}
{% macro _create_run_state() -%}
    {%- set string = dbt.type_string() -%}
    {%- set tables = {
        'runs': 'run_number bigint, invocation_id ' ~ string ~ ', as_of_date date, opened_at timestamp',
        'changed_subjects': 'model ' ~ string ~ ', customer_id bigint, month date, run_number bigint, is_whole boolean',
        'recomputations': 'model ' ~ string ~ ', run_number bigint, after_run bigint, reason ' ~ string
            ~ ', definition ' ~ string ~ ', recorded_at timestamp',
        'seeds_loaded': 'seed ' ~ string ~ ', contents ' ~ string ~ ', recorded_at timestamp',
        'run_windows': 'run_number bigint, invocation_id ' ~ string ~ ', feed ' ~ string
            ~ ', batch_id bigint, opened_at timestamp',
        'cdc_watermarks': 'model ' ~ string ~ ', feed ' ~ string
            ~ ', batch_id bigint, first_batch_id bigint, run_number bigint, recorded_at timestamp',
        'cdc_tables': 'model ' ~ string ~ ', definition ' ~ string ~ ', run_number bigint',
        'cdc_log': 'run_number bigint, invocation_id ' ~ string ~ ', model ' ~ string ~ ', status ' ~ string
            ~ ', changes_read bigint, quarantined bigint, duplicates bigint, stale bigint'
            ~ ', upserted bigint, deleted bigint, truncates bigint, cleared bigint, recorded_at timestamp',
        'cdc_unusable': 'model ' ~ string ~ ', feed ' ~ string ~ ', batch_id bigint, source ' ~ string
            ~ ', source_partition int, source_position bigint, reason ' ~ string
            ~ ', run_number bigint, recorded_at timestamp',
        'expectation_log': 'run_number bigint, invocation_id ' ~ string ~ ', feed ' ~ string ~ ', staging_model '
            ~ string ~ ', rule ' ~ string ~ ', on_violation ' ~ string ~ ', is_applied boolean'
            ~ ', first_batch_id bigint, last_batch_id bigint, judged bigint, violated bigint, recorded_at timestamp',
    } -%}
    {%- do adapter.create_schema(realtime_insights.run_state_relation('runs').without_identifier()) -%}
    {%- for name, columns in tables.items()
            if not realtime_insights._is_there(realtime_insights.run_state_relation(name)) -%}
        {%- do run_query(
            'create table if not exists ' ~ realtime_insights.run_state_relation(name) ~ ' (' ~ columns ~ ')'
        ) -%}
    {%- endfor -%}
{%- endmacro %}

{# True where dbt knows that a table is there: a statement that changes nothing takes its time too. #}
{% macro _is_there(relation) -%}
    {{ return(adapter.dispatch('_is_there', 'realtime_insights')(relation)) }}
{%- endmacro %}

{% macro default___is_there(relation) -%}
    {{ return(load_cached_relation(relation) is not none) }}
{%- endmacro %}

{# Here it takes none; and to ask dbt may open a transaction that nobody closes in a hook. #}
{% macro duckdb___is_there(relation) -%} {{ return(false) }} {%- endmacro %}

{#
    The newest batch of every feed, and the newest date on which something is said to have been sent:
    a dict of feed to `batch_id` and `date`. Only files that may hold a batch as new as the newest
    known one are read; where none is left, bronze was made anew and all of it is looked at.
#}
{% macro _newest_batches(known) -%}
    {%- set feeds = [] -%}
    {%- for node in graph.sources.values() if realtime_insights._feed_of(node) -%}
        {%- do feeds.append(node) -%}
    {%- endfor -%}
    {%- set newest = {} -%}
    {%- for pass in ['newest', 'all'] -%}
        {%- set queries = [] -%}
        {%- for node in feeds if realtime_insights._feed_of(node) not in newest -%}
            {%- set feed = realtime_insights._feed_of(node) -%}
            {%- set batch = realtime_insights._batch_of(node) -%}
            {%- do queries.append(
                "select '" ~ feed ~ "' as feed, max(" ~ batch ~ ') as batch_id, cast(cast(max('
                ~ realtime_insights._sent_at(node) ~ ') as date) as ' ~ dbt.type_string() ~ ') as sent_on from '
                ~ source(node.source_name, node.name)
                ~ (' where ' ~ batch ~ ' >= ' ~ known.get(feed, 0) if pass == 'newest')
            ) -%}
        {%- endfor -%}
        {%- if queries -%}
            {%- for row in run_query(queries | join(' union all ')).rows if row[1] is not none or pass == 'all' -%}
                {%- do newest.update({row[0]: {'batch_id': (row[1] or 0) | int, 'date': row[2]}}) -%}
            {%- endfor -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(newest) }}
{%- endmacro %}

{#
    The name of the feed that a source is, or none. Every table of the source `bronze` is one, by its
    own name, but the quarantine; another source table is one if its `meta` says
    `feed: {written_at: <timestamp column>, overlap_seconds: <number>}`: a table that somebody else's
    connector writes. Its batches are the microseconds of that column, and a run reads again what was
    written in the seconds before its watermark, because such rows may become visible late.
#}
{% macro _feed_of(node) -%}
    {%- if node.source_name == 'bronze' and node.name != 'quarantine' or node.config.meta.get('feed') -%}
        {{ return(node.name) }}
    {%- endif -%}
    {{ return(none) }}
{%- endmacro %}

{% macro _batch_of(node) -%}
    {%- set foreign = node.config.meta.get('feed') -%}
    {%- if foreign -%}
        {{ return(realtime_insights.epoch_microseconds('cast(' ~ foreign.written_at ~ ' as timestamp)')) }}
    {%- endif -%}
    {{ return('batch_id') }}
{%- endmacro %}

{# When a record was sent: never after it landed, whatever the clock of its source said. #}
{% macro _sent_at(node) -%}
    {%- set foreign = node.config.meta.get('feed') -%}
    {{ return('cast(' ~ foreign.written_at ~ ' as timestamp)' if foreign else 'least(source_timestamp, ingested_at)') }}
{%- endmacro %}

{# Keeps of the run state what a later run can ask for. #}
{% macro _forget_old_runs(run_number) -%}
    {%- set windows = realtime_insights.run_state_relation('run_windows') -%}
    {%- set watermarks = realtime_insights.run_state_relation('cdc_watermarks') -%}
    {%- set runs = realtime_insights.run_state_relation('runs') -%}
    {%- set recomputations = realtime_insights.run_state_relation('recomputations') -%}
    {%- for table in [windows, runs] -%}
        {%- do run_query('delete from ' ~ table ~ ' where run_number < ' ~ (run_number - 1000)) -%}
    {%- endfor -%}
    {%- do realtime_insights._forget_old_subjects(run_number) -%}
    {%- do run_query(
        'delete from ' ~ recomputations ~ ' where run_number < ' ~ (run_number - 1000)
        ~ ' and exists (select 1 from ' ~ recomputations ~ ' as later where later.model = ' ~ recomputations
        ~ '.model and later.run_number > ' ~ recomputations ~ '.run_number)'
    ) -%}
    {%- do run_query(
        'delete from ' ~ watermarks ~ ' where run_number < ' ~ (run_number - 1000)
        ~ ' and exists (select 1 from ' ~ watermarks ~ ' as later where later.model = ' ~ watermarks
        ~ '.model and later.feed = ' ~ watermarks ~ '.feed and later.run_number > ' ~ watermarks ~ '.run_number)'
    ) -%}
{%- endmacro %}

{# The relation that holds one kind of run state; see `open_run`. #}
{% macro run_state_relation(name) -%}
    {{ return(api.Relation.create(
        database=target.database,
        schema=generate_schema_name('observability', none),
        identifier=name,
    )) }}
{%- endmacro %}

{# The feeds that a model reads, directly or through staging views: a dict of feed to source node. #}
{% macro feeds_of(node) -%}
    {%- set feeds = {} -%}
    {%- for parent in node.depends_on.nodes -%}
        {%- if parent in graph.sources -%}
            {%- set feed = realtime_insights._feed_of(graph.sources[parent]) -%}
            {%- if feed -%} {%- do feeds.update({feed: graph.sources[parent]}) -%} {%- endif -%}
        {%- elif parent in graph.nodes and graph.nodes[parent].config.materialized == 'view' -%}
            {%- do feeds.update(realtime_insights.feeds_of(graph.nodes[parent])) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(feeds) }}
{%- endmacro %}

{# True while a model is really built, and not compiled, shown, documented or unit-tested. #}
{% macro _is_built() -%}
    {{ return(execute and flags.WHICH in ('build', 'run') and model.resource_type == 'model') }}
{%- endmacro %}

{# What the macros of one model tell one another during one run: a dict that they write into. -#}
{% macro _notes() -%}
    {%- set node = graph.nodes[model.unique_id] -%}
    {%- if node.get('notes', {}).get('invocation_id') != invocation_id -%}
        {%- do node.update({'notes': {'invocation_id': invocation_id}}) -%}
    {%- endif -%}
    {{ return(node.notes) }}
{%- endmacro %}

{#
    What is remembered about this model: `run_number` of this run, `marks` (feed to the newest batch
    of this run), `read` (feed to the newest batch read before), `first` (feed to the oldest batch of
    the last full build) and `definition` (none if the table was never built). Asked for once a run.
#}
{% macro _run_state() -%}
    {%- set notes = realtime_insights._notes() -%}
    {%- if 'run_state' in notes -%} {{ return(notes.run_state) }} {%- endif -%}
    {%- set state = {'marks': {}, 'read': {}, 'first': {}, 'definition': none} -%}
    {%- set rows = run_query(
        "select 'mark' as what, feed, batch_id, run_number, cast(null as " ~ dbt.type_string()
        ~ ') as definition from ' ~ realtime_insights.run_state_relation('run_windows')
        ~ " where invocation_id = '" ~ invocation_id ~ "' union all select what, feed, batch_id, run_number, definition"
        ~ " from (select 'read' as what, feed, batch_id, first_batch_id as run_number, cast(null as "
        ~ dbt.type_string() ~ ') as definition, row_number() over (partition by feed order by run_number desc) as place from '
        ~ realtime_insights.run_state_relation('cdc_watermarks') ~ " where model = '" ~ model.unique_id
        ~ "' union all select 'definition', null, null, null, definition, row_number() over (order by run_number desc) from "
        ~ realtime_insights.run_state_relation('cdc_tables') ~ " where model = '" ~ model.unique_id
        ~ "') as kept where place = 1"
    ).rows -%}
    {%- for row in rows -%}
        {%- if row[0] == 'mark' -%}
            {%- do state.marks.update({row[1]: row[2] | int}) -%}
            {%- do state.update({'run_number': row[3] | int}) -%}
        {%- elif row[0] == 'read' -%}
            {%- do state.read.update({row[1]: row[2] | int}) -%}
            {%- do state.first.update({row[1]: (row[3] or 0) | int}) -%}
        {%- else -%}
            {%- do state.update({'definition': row[4]}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do notes.update({'run_state': state}) -%}
    {{ return(state) }}
{%- endmacro %}

{#
    A condition on staging rows: the batches that this run has to apply to `this`. On a first build
    and on a full refresh that is everything up to the run's mark. The bounds are literals, so that
    only the files of the new batches are read.
#}
{% macro in_window(state=none) -%}
    {%- if not realtime_insights._is_built() -%} {{ return('true') }} {%- endif -%}
    {%- set state = state or realtime_insights._run_state() -%}
    {%- set conditions = [] -%}
    {%- for feed, node in realtime_insights.feeds_of(model).items() if feed in state.marks -%}
        {%- set after = state.read.get(feed, 0) if is_incremental() else 0 -%}
        {%- set upto = state.marks[feed] -%}
        {%- set foreign = node.config.meta.get('feed') -%}
        {%- set overlap = (foreign or {}).get('overlap_seconds', 0) * 1000000 -%}
        {%- if after > upto -%}
            {%- do exceptions.raise_compiler_error(
                this ~ ' has read feed ' ~ feed ~ ' up to batch ' ~ after ~ ', but bronze holds only '
                ~ upto ~ ' batches: bronze was made anew. Rebuild with --full-refresh.'
            ) -%}
        {%- elif foreign -%}
            {#- A row that does not say when it was written is read every time. -#}
            {%- do conditions.append(
                "(_feed = '" ~ feed ~ "' and coalesce(batch_id > " ~ (after - overlap)
                ~ ' and batch_id <= ' ~ upto ~ ', true))'
            ) -%}
        {%- elif after < upto -%}
            {%- do conditions.append(
                "(_feed = '" ~ feed ~ "' and batch_id > " ~ after ~ ' and batch_id <= ' ~ upto ~ ')'
            ) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return('(' ~ (conditions | join(' or ') or 'false') ~ ')') }}
{%- endmacro %}

{#
    Refuses a full refresh of a table that was built from more batches than bronze still holds: what
    the older ones said would be gone.
#}
{% macro _check_full_refresh(state) -%}
    {%- if flags.FULL_REFRESH and state.first and not var('allow_incomplete_refresh', false) -%}
        {%- for feed, node in realtime_insights.feeds_of(model).items() if feed in state.first -%}
            {%- set oldest = realtime_insights._oldest_batch(node) -%}
            {%- if oldest is not none and oldest > state.first[feed] and state.marks[feed] >= state.read[feed] -%}
                {%- do exceptions.raise_compiler_error(
                    'model ' ~ model.name ~ ' was built from feed ' ~ feed ~ ' as of batch ' ~ state.first[feed]
                    ~ '; bronze holds it only from batch ' ~ oldest
                    ~ " on. A full refresh would lose what came before. Nothing was written. To do it all the same: "
                    ~ "--vars '{allow_incomplete_refresh: true}'"
                ) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}

{% macro _oldest_batch(node) -%}
    {%- set oldest = run_query(
        'select min(' ~ realtime_insights._batch_of(node) ~ ') from ' ~ source(node.source_name, node.name)
    ).rows[0][0] -%}
    {{ return(oldest | int if oldest is not none else none) }}
{%- endmacro %}

{#
    Moves the watermarks of this model to the marks of this run: a post-hook. A table of changes that
    nothing came for stays where it is. With `may_be_stopped` the model has a column `stops_feed`, and
    a feed with such a row keeps its watermark: its batches are read again until they are applied.
#}
{% macro record_watermarks(may_be_stopped=false) -%}
    {%- if execute and not realtime_insights._notes().get('nothing_new') -%}
        {%- set state = realtime_insights._run_state() -%}
        {%- set stopped = realtime_insights._stopped_feeds(state) if may_be_stopped else [] -%}
        {%- set rows = [] -%}
        {%- for feed, node in realtime_insights.feeds_of(model).items() if feed in state.marks and feed not in stopped -%}
            {%- if should_full_refresh() or feed not in state.first -%}
                {%- set first = realtime_insights._oldest_batch(node) -%}
            {%- else -%}
                {%- set first = state.first[feed] -%}
            {%- endif -%}
            {%- do rows.append(
                "('" ~ model.unique_id ~ "', '" ~ feed ~ "', " ~ state.marks[feed] ~ ', '
                ~ (first if first is not none else 'null') ~ ', ' ~ state.run_number ~ ', '
                ~ realtime_insights.utc_now() ~ ')'
            ) -%}
        {%- endfor -%}
        {%- for parent in realtime_insights._cdc_parents() -%}
            {%- do rows.append(
                "('" ~ model.unique_id ~ "', '" ~ parent ~ "', " ~ state.run_number ~ ', null, '
                ~ state.run_number ~ ', ' ~ realtime_insights.utc_now() ~ ')'
            ) -%}
        {%- endfor -%}
        {%- if rows -%}
            insert into {{ realtime_insights.run_state_relation('cdc_watermarks') }} values {{ rows | join(', ') }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{# The feeds of which this run read a record that stops them, as the model itself says. #}
{% macro _stopped_feeds(state) -%}
    {%- set rows = run_query(
        'select distinct feed from ' ~ this ~ ' where ' ~ realtime_insights._since_watermarks(state) ~ ' and stops_feed'
    ).rows -%}
    {{ return(rows | map(attribute=0) | list) }}
{%- endmacro %}

{# A condition on rows of this model, by feed and batch: those that this run read. #}
{% macro _since_watermarks(state) -%}
    {%- set conditions = [] -%}
    {%- for feed in realtime_insights.feeds_of(model) -%}
        {%- set read = 0 if should_full_refresh() else state.read.get(feed, 0) -%}
        {%- do conditions.append("(feed = '" ~ feed ~ "' and batch_id > " ~ read ~ ')') -%}
    {%- endfor -%}
    {{ return('(' ~ (conditions | join(' or ') or 'false') ~ ')') }}
{%- endmacro %}

{# The tables of changes that this model reads, by name: their watermarks are numbers of runs. #}
{% macro _cdc_parents() -%}
    {%- set parents = [] -%}
    {%- for parent in model.depends_on.nodes if parent in graph.nodes -%}
        {%- if graph.nodes[parent].config.incremental_strategy == 'cdc' -%}
            {%- do parents.append(graph.nodes[parent].alias) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(parents) }}
{%- endmacro %}
