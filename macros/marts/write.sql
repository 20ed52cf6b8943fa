{#
    incremental_strategy: recompute

    The rows of the concerned customers (or customer-months) become the staged ones; rows of theirs
    that are not staged go. Staged rows of others are left out: whatever an import forgot to restrict,
    only customers whose rows were all read are written.
#}
{% macro get_incremental_recompute_sql(arg_dict) -%}
    {{ return(adapter.dispatch('get_incremental_recompute_sql', 'realtime_insights')(arg_dict)) }}
{%- endmacro %}

{# The rows of the mart that this run computes. #}
{% macro _concerned_rows() -%}
    {%- set recomputed = model.config.meta.recomputed -%}
    {{ return(realtime_insights._of_concerned(recomputed.customer, recomputed.month)) }}
{%- endmacro %}

{# One statement, so that nobody sees half of it. #}
{% macro default__get_incremental_recompute_sql(arg_dict) -%}
    {%- set target, staged = arg_dict['target_relation'], arg_dict['temp_relation'] -%}
    {%- set keys = model.config.meta.recomputed['keys'] -%}
    {%- set columns = adapter.get_columns_in_relation(target) | map(attribute='name') | list -%}
    {%- set concerned = realtime_insights._concerned_rows() -%}
    merge into {{ target }} as target
    using (
        select
            {%- for column in columns %}
            {{ 'coalesce(staged.' ~ adapter.quote(column) ~ ', standing.' ~ adapter.quote(column) ~ ') as '
                if column in keys else 'staged.' }}{{ adapter.quote(column) }},
            {%- endfor %}
            staged._is_staged is null as _is_gone
        from (select *, true as _is_staged from {{ staged }} where {{ concerned }}) as staged
        full outer join (
            select {{ realtime_insights._quoted(keys) | join(', ') }} from {{ target }} where {{ concerned }}
        ) as standing
            on {{ realtime_insights._same_keys(keys, 'staged', 'standing', null_safe=true) }}
    ) as source
    on {{ realtime_insights._same_keys(keys, 'target', 'source', null_safe=true) }}
    when matched and source._is_gone then delete
    when matched then update set
        {%- for column in columns %}
        {{ adapter.quote(column) }} = source.{{ adapter.quote(column) }}{{ ',' if not loop.last }}
        {%- endfor %}
    when not matched then insert ({{ realtime_insights._quoted(columns) | join(', ') }})
    values (
        {%- for column in columns %}
        source.{{ adapter.quote(column) }}{{ ',' if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}

{# In the transaction of the model: DuckDB's MERGE is slow where many rows match. #}
{% macro duckdb__get_incremental_recompute_sql(arg_dict) -%}
    {%- set target, staged = arg_dict['target_relation'], arg_dict['temp_relation'] -%}
    {%- set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) -%}
    delete from {{ target }}
    where {{ realtime_insights._concerned_rows() }};

    insert into {{ target }} ({{ columns }})
    select {{ columns }}
    from {{ staged }}
    where {{ realtime_insights._concerned_rows() }}
{%- endmacro %}

{#
    True where a run replaces customers of a mart and nothing else: its SQL and settings are those of
    the run before, so its columns are, which the contract names.
#}
{% macro _is_recomputed_in_place() -%}
    {%- if not realtime_insights._is_built() or model.config.meta.get('recomputed') is none
            or not model.config.contract.enforced or not is_incremental() -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set state = realtime_insights._recomputation() -%}
    {{ return(not state.is_whole and state.concerns and state.has_same_settings) }}
{%- endmacro %}

{# In one transaction, nothing is staged: what the rows are computed from is not what they replace. #}
{% macro _recompute_in_place() -%}
    {%- set target = this.incorporate(type='table') -%}
    {{- run_hooks(pre_hooks, inside_transaction=False) -}}
    {{- run_hooks(pre_hooks, inside_transaction=True) -}}
    {%- call statement('main') -%}
        {{ realtime_insights.get_incremental_recompute_sql({
            'target_relation': target,
            'temp_relation': '(' ~ model.compiled_code ~ ') as staged',
            'dest_columns': model.columns.values(),
        }) }}
    {%- endcall -%}
    {{- run_hooks(post_hooks, inside_transaction=True) -}}
    {%- do adapter.commit() -%}
    {{- run_hooks(post_hooks, inside_transaction=False) -}}
    {{ return({'relations': [target]}) }}
{%- endmacro %}

{#
    A mart that is computed whole is built as with --full-refresh: a new table takes the place of the
    old one, with its columns, at once.
#}
{% macro should_full_refresh() -%}
    {%- if realtime_insights._is_built() and model.config.meta.get('recomputed')
            and 'recomputation' in realtime_insights._notes() -%}
        {{ return(realtime_insights._recomputation().is_whole) }}
    {%- endif -%}
    {{ return(dbt.should_full_refresh()) }}
{%- endmacro %}
