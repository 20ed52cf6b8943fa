{#
    What a run has to compute of a mart, and what is remembered of it. Tables, in the schema
    `observability`:

        recomputations   model, run_number, after_run, reason, definition, recorded_at: one row per
                         run that wrote the mart. The run has read the notes of `changed_subjects` after
                         `after_run`; 0: the mart was computed whole, for this reason
        seeds_loaded     seed, contents, recorded_at: what is really in the database, whatever the
                         files of the project say since

    The definition is a fingerprint of the mart's own SQL with every macro, variable and date in it,
    of the views between it and what it stands on, and of the seeds that it reads; behind it, another
    one of its configuration and documentation. It is not computed from marts above: when one of these
    is computed whole, for whatever reason, the marts that read it are as well.
#}

{#
    What this run computes of this mart, looked up once a run, in one statement.

    Returns a dict:
        run_number, definition
        is_whole          true: everything, because of `reason`
        after             else: what was noted after this run,
        tables            by these CDC tables,
        monthless         of which these concern all months of a customer
        concerns          false: nothing was noted
        concerns_nobody   rows without a customer have changed
        has_same_settings nothing that dbt sets beside the rows has changed
        is_left_alone     nor was anything noted
#}
{% macro _recomputation() -%}
    {%- set notes = realtime_insights._notes() -%}
    {%- if 'recomputation' not in notes -%}
        {%- do notes.update({'recomputation': realtime_insights._look_up_recomputation()}) -%}
    {%- endif -%}
    {{ return(notes.recomputation) }}
{%- endmacro %}

{% macro _look_up_recomputation() -%}
    {%- set inputs = realtime_insights._mart_inputs(model) -%}
    {%- set string = dbt.type_string() -%}
    {%- set recomputations = realtime_insights.run_state_relation('recomputations') -%}
    {%- set notes = realtime_insights.run_state_relation('changed_subjects') -%}
    {%- set of_own_run = 'coalesce((select max(run_number) from ' ~ recomputations ~ " where model = '"
        ~ model.unique_id ~ "'), 0)" -%}
    {%- set of_tables = ' where model in (' ~ realtime_insights._texts(inputs.tables) ~ ')' -%}
    {#- what, name, a number, another number, a text -#}
    {%- set queries = [
        "select 'run' as what, cast(null as " ~ string ~ ') as name, run_number, cast(null as bigint) as other, cast(as_of_date as '
            ~ string ~ ') as text from ' ~ realtime_insights.run_state_relation('runs') ~ " where invocation_id = '"
            ~ invocation_id ~ "'",
        "select 'own', null, run_number, null, definition from " ~ recomputations ~ " where model = '" ~ model.unique_id
            ~ "' and run_number = " ~ of_own_run,
        "select 'note', model, max(run_number), max(case when is_whole then run_number end), "
            ~ "max(case when not is_whole and customer_id is null then 'nobody' end) from "
            ~ notes ~ of_tables ~ ' and run_number > ' ~ of_own_run ~ ' group by model',
    ] -%}
    {%- if inputs.marts -%}
        {%- do queries.append(
            "select 'mart', model, max(run_number), min(after_run), null from " ~ recomputations ~ ' where model in ('
            ~ realtime_insights._texts(inputs.marts) ~ ') and run_number > ' ~ of_own_run ~ ' group by model'
        ) -%}
    {%- endif -%}
    {%- if inputs.seeds -%}
        {%- do queries.append(
            "select 'seed', seed, null, null, max_by(contents, recorded_at) from "
            ~ realtime_insights.run_state_relation('seeds_loaded') ~ ' where seed in ('
            ~ realtime_insights._texts(inputs.seeds) ~ ') group by seed'
        ) -%}
    {%- endif -%}

    {%- set found = {'own': none, 'note': {}, 'mart': {}, 'seed': {}, 'run': none} -%}
    {%- for row in run_query(queries | join(' union all ')).rows -%}
        {%- if row[1] is none -%} {%- do found.update({row[0]: row}) -%}
        {%- else -%} {%- do found[row[0]].update({row[1]: row}) -%} {%- endif -%}
    {%- endfor -%}

    {%- do realtime_insights._notes().update({'as_of_date': found.run[4]}) -%}
    {%- set seeds = [] -%}
    {%- for name in inputs.seeds -%}
        {%- do seeds.append(name ~ ' ' ~ (found.seed[name][4] if name in found.seed else '')) -%}
    {%- endfor -%}
    {%- set definition = local_md5(tojson([realtime_insights._own_sql(), inputs.views, seeds])) -%}
    {%- set settings = local_md5(tojson([model.config, model.description, model.columns], sort_keys=true)) -%}
    {%- set before = (found.own[4] if found.own else '').split(' ') -%}
    {%- set state = {
        'run_number': found.run[2] | int, 'definition': definition ~ ' ' ~ settings, 'is_whole': true, 'reason': none, 'after': 0,
        'tables': inputs.tables, 'monthless': inputs.monthless, 'concerns': true, 'concerns_nobody': false,
    } -%}
    {%- if not is_incremental() -%}
        {%- do state.update({'reason': 'full refresh' if flags.FULL_REFRESH else 'first build'}) -%}
        {{ return(state) }}
    {%- elif not found.own or found.own[2] | int > state.run_number -%}
        {%- do state.update({'reason': 'nothing is remembered of it'}) -%}
        {{ return(state) }}
    {%- elif inputs.silent -%}
        {%- do state.update({'reason': inputs.silent[0].split('.')[-1] ~ ' does not say whose rows change'}) -%}
        {{ return(state) }}
    {%- elif before[0] != definition -%}
        {%- do state.update({'reason': 'its SQL, a variable, a seed or the day has changed'}) -%}
        {{ return(state) }}
    {%- endif -%}

    {#- Notes that a mart above has read only after this one read that mart count once more. -#}
    {%- set after = [found.own[2] | int] -%}
    {%- for name, row in found.mart.items() -%}
        {%- do after.append(row[3] | int) -%}
        {%- if row[3] | int == 0 or after[0] < state.run_number - 1000 -%}
            {%- do state.update({'reason': name.split('.')[-1] ~ ' was computed whole'}) -%}
            {{ return(state) }}
        {%- endif -%}
    {%- endfor -%}
    {%- for name, row in found.note.items() if row[3] is not none -%}
        {%- do state.update({'reason': name.split('.')[-1] ~ ' was built whole'}) -%}
        {{ return(state) }}
    {%- endfor -%}
    {%- set reads_again = after | min < after[0] -%}
    {%- set concerns = reads_again or found.note | length > 0 -%}
    {%- do state.update({
        'is_whole': false, 'after': after | min, 'concerns': concerns,
        'concerns_nobody': reads_again or found.note.values() | selectattr(4) | list | length > 0,
        'reason': 'customers that changed' if concerns else 'nothing',
        'has_same_settings': before[-1] == settings,
        'is_left_alone': not concerns and before[-1] == settings,
    }) -%}
    {{ return(state) }}
{%- endmacro %}

{#
    What a mart stands on: the CDC `tables` (of those `monthless` concern all months of a customer),
    the `marts` and `seeds` that it reads, directly or through views, and the SQL of those `views`.
    What is `silent` does not say whose rows change: a mart that reads such a table, or a mart over
    one, is right, but computed whole each time.
#}
{% macro _mart_inputs(node) -%}
    {%- set inputs = {'tables': [], 'monthless': [], 'marts': [], 'seeds': [], 'views': [], 'silent': []} -%}
    {%- do realtime_insights._collect_inputs(node, inputs, reads=true, monthless=false) -%}
    {%- for name in inputs -%} {%- do inputs.update({name: inputs[name] | unique | sort}) -%} {%- endfor -%}
    {{ return(inputs) }}
{%- endmacro %}

{# `reads`: what is met is read by the mart itself; false below other marts, which see to it. #}
{% macro _collect_inputs(node, inputs, reads, monthless) -%}
    {%- for id in node.depends_on.nodes -%}
        {%- set parent = graph.nodes.get(id) or graph.sources[id] -%}
        {%- set meta = parent.config.meta or {} -%}
        {%- if parent.resource_type == 'seed' -%}
            {%- if reads -%} {%- do inputs.seeds.append(id) -%} {%- endif -%}
        {%- elif meta.get('recomputed') -%}
            {%- if reads -%} {%- do inputs.marts.append(id) -%} {%- endif -%}
            {%- do realtime_insights._collect_inputs(parent, inputs, false, monthless or not meta.recomputed.month) -%}
        {%- elif parent.config.materialized in ['view', 'ephemeral'] -%}
            {%- if reads -%} {%- do inputs.views.append(realtime_insights._view_sql(parent)) -%} {%- endif -%}
            {%- do realtime_insights._collect_inputs(parent, inputs, reads, monthless) -%}
        {%- elif (meta.get('cdc') or {}).get('subject') -%}
            {%- do inputs.tables.append(id) -%}
            {%- if monthless -%} {%- do inputs.monthless.append(id) -%} {%- endif -%}
        {%- else -%}
            {%- do inputs.silent.append(id) -%}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro %}

{# The model's SQL as it is when all customers are computed: rendered once more, without the parts
   that say which. #}
{% macro _own_sql() -%}
    {{ return(render(
        model.raw_code
        | replace('recomputed_by_customer', '_no_recomputation_by_customer')
        | replace('of_changed_customer', '_of_every_customer')
    )) }}
{%- endmacro %}

{% macro _no_recomputation_by_customer() -%}
    {%- do varargs -%} {%- do kwargs -%}
{%- endmacro %}

{% macro _no_recomputation_by_customer_month() -%}
    {%- do varargs -%} {%- do kwargs -%}
{%- endmacro %}

{% macro _of_every_customers() -%}
    {%- do varargs -%} {%- do kwargs -%} {{ return('true') }}
{%- endmacro %}

{% macro _of_every_customer_months() -%}
    {%- do varargs -%} {%- do kwargs -%} {{ return('true') }}
{%- endmacro %}

{# The SQL of another model as text that changes with it: it cannot be rendered from here, so the
   variables that it names and the day stand beside it. #}
{% macro _view_sql(node) -%}
    {%- set values = {} -%}
    {%- for name in modules.re.findall("\\bvar\\(\\s*['\"](\\w+)['\"]", node.raw_code) -%}
        {%- do values.update({name: var(name, none) | string}) -%}
    {%- endfor -%}
    {%- if 'as_of_date(' in node.raw_code -%} {%- do values.update({'as_of_date': realtime_insights.as_of_date()}) -%} {%- endif -%}
    {{ return(tojson([node.unique_id, node.raw_code, values], sort_keys=true)) }}
{%- endmacro %}

{# True where dbt has nothing to do: for a mart, or for a table of changes that nothing came for. #}
{% macro _is_left_alone() -%}
    {{ return(
        realtime_insights._is_built() and (
            realtime_insights._notes().get('nothing_new', false)
            or model.config.meta.get('recomputed') is not none
            and realtime_insights._recomputation().get('is_left_alone', false)
        )
    ) }}
{%- endmacro %}

{# Writes down what was computed of this mart: its post-hook, in the same transaction where the engine
   has them; where not, a crash before it means that the same rows are computed again. #}
{% macro record_recomputation() -%}
    {%- if execute -%}
        {%- set state = realtime_insights._recomputation() -%}
        insert into {{ realtime_insights.run_state_relation('recomputations') }} values (
            '{{ model.unique_id }}', {{ state.run_number }}, {{ state.after }},
            {{ realtime_insights.text_literal(state.reason) }}, '{{ state.definition }}', {{ realtime_insights.utc_now() }}
        )
    {%- endif -%}
{%- endmacro %}

{# Writes down what a seed was loaded with: a post-hook of seeds. #}
{% macro record_seed() -%}
    {%- if execute -%}
        {%- set loaded = realtime_insights.run_state_relation('seeds_loaded') -%}
        {%- set contents = local_md5(tojson([model.checksum.checksum, model.config.column_types], sort_keys=true)) -%}
        insert into {{ loaded }}
        select seed, contents, {{ realtime_insights.utc_now() }}
        from (select '{{ model.unique_id }}' as seed, '{{ contents }}' as contents) as now
        where not exists (
            select 1
            from (
                select max_by(contents, recorded_at) as contents
                from {{ loaded }}
                where seed = '{{ model.unique_id }}'
            ) as before
            where before.contents = now.contents
        )
    {%- endif -%}
{%- endmacro %}
