{#
    The expectations of a staging model: what its YAML declares under `config: meta: expectations`,
    checked. Returns a list of dicts with `name`, `expression` and `on_violation` (warn, drop, fail;
    warn where nothing is said, as in Databricks' pipelines). docs/data_quality.md says what each
    does. In a unit test there are none: dbt does not give it the model's configuration.

    https://docs.databricks.com/aws/en/dlt/expectations
#}
{% macro expectations_of(node) -%}
    {%- set declared = (node.config.get('meta') or {}).get('expectations') or [] -%}
    {%- if not execute or not declared -%} {{ return([]) }} {%- endif -%}
    {%- if declared is string or declared is mapping or declared is not sequence -%}
        {%- do realtime_insights._refuse_expectation(
            node, none, 'expectations are a list', 'write `- name: ...` with expression and on_violation',
        ) -%}
    {%- endif -%}
    {%- if 'change_columns(' not in node.raw_code -%}
        {%- do realtime_insights._refuse_expectation(
            node, none, 'nothing would judge its records',
            'end its last SELECT with change_columns(), or declare no expectations',
        ) -%}
    {%- endif -%}
    {%- set known = ['name', 'expression', 'on_violation', 'description'] -%}
    {%- set rules = [] -%}
    {%- for rule in declared -%}
        {%- if rule is not mapping or not rule.get('name') -%}
            {%- do realtime_insights._refuse_expectation(
                node, 'number ' ~ loop.index, 'it has no name', 'give it one, in snake_case',
            ) -%}
        {%- endif -%}
        {%- set action = rule.get('on_violation', 'warn') -%}
        {%- if not modules.re.fullmatch('[a-z][a-z0-9_]*', rule.name | string) -%}
            {%- do realtime_insights._refuse_expectation(
                node, rule.name, 'its name is not in snake_case', 'use a-z, 0-9 and _ only',
            ) -%}
        {%- elif rule.name in rules | map(attribute='name') -%}
            {%- do realtime_insights._refuse_expectation(
                node, rule.name, 'it is declared twice', 'give one of the two another name',
            ) -%}
        {%- elif not (rule.get('expression') or '') | string | trim -%}
            {%- do realtime_insights._refuse_expectation(
                node, rule.name, 'it has no expression', 'write the SQL condition that a good record meets',
            ) -%}
        {%- elif action not in ['warn', 'drop', 'fail'] -%}
            {%- do realtime_insights._refuse_expectation(
                node, rule.name, "on_violation '" ~ action ~ "' is unknown", 'it is warn, drop or fail',
            ) -%}
        {%- endif -%}
        {%- for option in rule if option not in known -%}
            {%- do realtime_insights._refuse_expectation(
                node, rule.name, "there is no option '" ~ option ~ "'", 'options are: ' ~ known | join(', '),
            ) -%}
        {%- endfor -%}
        {%- do rules.append({
            'name': rule.name, 'expression': rule.expression | string | trim, 'on_violation': action,
        }) -%}
    {%- endfor -%}
    {{ return(rules) }}
{%- endmacro %}

{# A wrong declaration, as a compile error. #}
{% macro _refuse_expectation(node, rule, reason, fix) -%}
    {%- do exceptions.raise_compiler_error(
        'model ' ~ node.name ~ ', expectation' ~ ((' ' ~ rule) if rule else 's') ~ ': ' ~ reason ~ '. Fix: ' ~ fix ~ '.'
    ) -%}
{%- endmacro %}

{#
    What becomes of a record under these rules, as SQL of `_reject_reason`, `_broken_rules` and
    `_rejected_value`. A rule is kept only where its expression is true: unknown is a violation, as
    for a CHECK constraint of Delta Lake. Rejected records, deletes and truncates are not judged:
    their columns say nothing.
#}
{% macro _judged_columns(rules) -%}
    {%- set unjudged = "_is_deleted or coalesce(_op = 't', false)" -%}
    {%- set dropping = rules | selectattr('on_violation', 'equalto', 'drop') | list -%}
    {%- set reason = '_reject_reason' -%}
    {%- if dropping -%}
        {%- set kept = [] -%}
        {%- for rule in dropping -%} {%- do kept.append(realtime_insights._is_kept(rule)) -%} {%- endfor -%}
        {%- set reason -%}
case
        when _reject_reason is not null then _reject_reason
        when {{ unjudged }} then null
        when not ({{ kept | join(' and ') }})
            then 'breaks ' || {{ realtime_insights._names_of_broken(dropping, ', ') }}
    end
        {%- endset -%}
    {%- endif -%}
    {%- set broken -%}
case
        when not (_reject_reason is not null or {{ unjudged }})
            then nullif({{ realtime_insights._names_of_broken(rules, ',') }}, '')
    end
    {%- endset -%}
    {{ return({
        '_reject_reason': reason,
        '_broken_rules': broken,
        '_rejected_value': ('case when ' ~ reason ~ ' is not null then _record end') if dropping else '_rejected_value',
    }) }}
{%- endmacro %}

{% macro _is_kept(rule) -%} {{ return('coalesce(' ~ rule.expression ~ ', false)') }} {%- endmacro %}

{# The names of the rules that a record breaks, as one text. #}
{% macro _names_of_broken(rules, separator) -%}
    {%- set names = [] -%}
    {%- for rule in rules -%}
        {%- do names.append('case when not ' ~ realtime_insights._is_kept(rule) ~ " then '" ~ rule.name ~ "' end") -%}
    {%- endfor -%}
    {{ return("concat_ws('" ~ separator ~ "', " ~ names | join(', ') ~ ')') }}
{%- endmacro %}

{# True where `_broken_rules`, or a column like it, names one of these rules. #}
{% macro _breaks_one_of(rules, broken='_broken_rules') -%}
    {%- set conditions = [] -%}
    {%- for rule in rules -%}
        {%- do conditions.append("instr(',' || " ~ broken ~ " || ',', '," ~ rule.name ~ ",') > 0") -%}
    {%- endfor -%}
    {{ return('coalesce(' ~ (conditions | join(' or ') or 'false') ~ ', false)') }}
{%- endmacro %}

{# The rules of a staging model that stop its feed. #}
{% macro _stopping_rules(node) -%}
    {{ return(realtime_insights.expectations_of(node) | selectattr('on_violation', 'equalto', 'fail') | list) }}
{%- endmacro %}

{# The node, among those that this model reads, whose relation this is; none for any other. #}
{% macro _staging_node(relation) -%}
    {#- A unit test knows no graph. -#}
    {%- set nodes = graph.get('nodes', {}) -%}
    {%- for parent in model.depends_on.nodes if parent in nodes -%}
        {%- set node = nodes[parent] -%}
        {%- if node.alias == relation.identifier and node.schema == relation.schema -%}
            {{ return(node) }}
        {%- endif -%}
    {%- endfor -%}
    {{ return(none) }}
{%- endmacro %}
