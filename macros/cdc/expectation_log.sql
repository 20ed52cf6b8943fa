{#
    Writes down what the expectations of every staging model judged in this run: a post-hook of the
    model that keeps the records which break one. How many were judged is in `batches`, one row per
    feed and batch; so nothing is parsed again.

    Records of a feed that is stopped are judged, and written down, again by each run until they are
    applied; `is_applied` is false while they are not.
#}
{% macro log_expectations(batches) -%}
{%- if execute -%}
{%- set state = realtime_insights._run_state() -%}
{%- set stopped = realtime_insights._stopped_feeds(state) -%}
{%- set rules = [] -%}
{%- for parent in model.depends_on.nodes if parent in graph.nodes -%}
    {%- set node = graph.nodes[parent] -%}
    {%- for rule in realtime_insights.expectations_of(node) -%}
        {%- for feed in realtime_insights.feeds_of(node) -%}
            {%- do rules.append(
                "('" ~ feed ~ "', '" ~ node.name ~ "', '" ~ rule.name ~ "', '" ~ rule.on_violation ~ "')"
            ) -%}
        {%- endfor -%}
    {%- endfor -%}
{%- endfor -%}
{%- if rules -%}
insert into {{ realtime_insights.run_state_relation('expectation_log') }}
with

rules as (
    select *
    from (values {{ rules | join(', ') }}) as declared (feed, staging_model, rule, on_violation)
),

judged as (
    select
        feed,
        min(batch_id) as first_batch_id,
        max(batch_id) as last_batch_id,
        sum(judged_records) as judged
    from {{ batches }}
    where {{ realtime_insights._since_watermarks(state) }}
    group by feed
),

broken as (
    select
        feed,
        broken_rules,
        count(*) as records
    from {{ this }}
    where {{ realtime_insights._since_watermarks(state) }} and broken_rules is not null
    group by feed, broken_rules
),

violated as (
    select
        rules.feed,
        rules.rule,
        sum(broken.records) as violated
    from rules
    inner join broken
        on
            rules.feed = broken.feed
            and instr(',' || broken.broken_rules || ',', ',' || rules.rule || ',') > 0
    group by rules.feed, rules.rule
)

select
    cast({{ state.run_number }} as bigint) as run_number,
    '{{ invocation_id }}' as invocation_id,
    rules.feed,
    rules.staging_model,
    rules.rule,
    rules.on_violation,
    {{ "rules.feed not in ('" ~ stopped | join("', '") ~ "')" if stopped else 'true' }} as is_applied,
    judged.first_batch_id,
    judged.last_batch_id,
    cast(judged.judged as bigint) as judged,
    cast(coalesce(violated.violated, 0) as bigint) as violated,
    {{ realtime_insights.utc_now() }} as recorded_at
from rules
inner join judged
    on rules.feed = judged.feed
left join violated
    on
        rules.feed = violated.feed
        and rules.rule = violated.rule
{%- endif -%}
{%- endif -%}
{%- endmacro %}

{# Before records of a stopped feed are read again: forgets what the run before said of them. #}
{% macro forget_stopped() -%}
    {%- if execute and load_relation(this) -%}
        {%- set state = realtime_insights._run_state() -%}
        delete from {{ this }} where {{ realtime_insights._since_watermarks(state) }}
    {%- endif -%}
{%- endmacro %}
