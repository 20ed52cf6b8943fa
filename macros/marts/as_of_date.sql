{#
    The day up to which the data speak, as a SQL date literal: what a mart takes for today. It never
    reads the clock, so that the same data give the same marts, whenever they are computed.

    It is the variable `as_of_date`, if that is set; else the date of the newest record that had
    landed when the run was opened, by the time at which its source sent it, or at which it landed, if
    the source says a later one. It never goes back. Where no model is built (`dbt compile`, `dbt
    show`, data tests) it is that of the newest run.
#}
{% macro as_of_date() -%}
    {%- set given = var('as_of_date', none) -%}
    {%- if given is none -%}
        {%- set given = realtime_insights._newest_as_of_date() or run_started_at.strftime('%Y-%m-%d') -%}
    {%- elif not modules.re.match('^[0-9]{4}-[0-9]{2}-[0-9]{2}$', given | string) -%}
        {%- do exceptions.raise_compiler_error(
            'variable as_of_date: ' ~ given ~ " is no date. Fix: --vars '{as_of_date: 2026-06-30}'"
        ) -%}
    {%- endif -%}
    {{ return("cast('" ~ given ~ "' as date)") }}
{%- endmacro %}

{# As the newest run has written it down; none before the first run, and where nothing has landed. #}
{% macro _newest_as_of_date() -%}
    {%- if not execute -%} {{ return(none) }} {%- endif -%}
    {#- A unit test, or an inline query, is no node that could keep it. -#}
    {%- set notes = realtime_insights._notes() if model.unique_id in graph.nodes else {} -%}
    {%- if 'as_of_date' not in notes -%}
        {%- set runs = realtime_insights.run_state_relation('runs') -%}
        {%- set known = none -%}
        {#- The first run has made it after the cache was filled. -#}
        {%- if realtime_insights._is_built() or load_cached_relation(runs) is not none -%}
            {%- set known = run_query(
                'select cast(max(as_of_date) as ' ~ dbt.type_string() ~ ') from ' ~ runs
            ).rows[0][0] -%}
        {%- endif -%}
        {%- do notes.update({'as_of_date': known}) -%}
    {%- endif -%}
    {{ return(notes.as_of_date) }}
{%- endmacro %}
