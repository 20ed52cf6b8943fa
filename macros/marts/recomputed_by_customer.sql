{#
    Makes a mart incremental by customer: a run computes the rows of the customers whose rows in
    silver have changed since the mart's own last run, and nothing else; no date window is involved
    that late data could miss. The mart must be, for each customer, a function of that customer's rows
    in its inputs, of seeds, variables and `as_of_date()`, and of nothing else. When any of these but
    the customers' rows changes, or the mart's own SQL, the mart is computed whole.

    The first line of the model; every import with a customer says `where {{ of_changed_customers() }}`.

    keys       list of the mart's key columns
    customer   the mart's customer column
#}
{% macro recomputed_by_customer(keys, customer='customer_id') -%}
    {{- realtime_insights._recomputed_config({'keys': keys, 'customer': customer, 'month': none}) -}}
{%- endmacro %}

{#
    The same by customer and month: for each of both the mart is a function of the rows of that
    customer and that month, and of rows that have no month. Imports say
    `where {{ of_changed_customer_months(month=...) }}`.

    month      the mart's month column, a date: the first day
#}
{% macro recomputed_by_customer_month(keys, customer='customer_id', month='month') -%}
    {{- realtime_insights._recomputed_config({'keys': keys, 'customer': customer, 'month': month}) -}}
{%- endmacro %}

{% macro _recomputed_config(recomputed) -%}
    {{ config(
        materialized='incremental',
        incremental_strategy='recompute',
        unique_key=recomputed['keys'],
        liquid_clustered_by=[recomputed.customer, recomputed.month] | reject('none') | list,
        on_schema_change='append_new_columns',
        meta={'recomputed': recomputed},
        post_hook='{{ realtime_insights.record_recomputation() }}',
    ) }}
{%- endmacro %}

{#
    A condition on rows of an input: those of the customers that a run computes. `true` where the mart
    is computed whole, and where nothing is built (`dbt compile`, `dbt show`, unit tests).

    column   the input's customer column, or an expression of type bigint
#}
{% macro of_changed_customers(column='customer_id') -%}
    {%- if not realtime_insights._is_built() -%} {{ return('true') }} {%- endif -%}
    {{ return(realtime_insights._of_concerned(column, none)) }}
{%- endmacro %}

{#
    The same for the customer-months that a run computes. A change that has no month concerns every
    month of its customer.

    month    an expression of the input that is the first day of its month
#}
{% macro of_changed_customer_months(column='customer_id', month='month') -%}
    {%- if not realtime_insights._is_built() -%} {{ return('true') }} {%- endif -%}
    {%- if not (model.config.meta.get('recomputed') or {}).get('month') -%}
        {%- do exceptions.raise_compiler_error(
            'model ' ~ model.name ~ ': of_changed_customer_months is for marts that are recomputed by '
            ~ 'customer and month. Fix: recomputed_by_customer_month(...) as the first line, or of_changed_customers().'
        ) -%}
    {%- endif -%}
    {{ return(realtime_insights._of_concerned(column, month)) }}
{%- endmacro %}

{# Rows of the customers, or customer-months, that this run computes, by the notes of the CDC tables. #}
{% macro _of_concerned(customer, month) -%}
    {%- set state = realtime_insights._recomputation() -%}
    {%- if state.is_whole -%} {{ return('true') }} {%- endif -%}
    {%- if not state.concerns -%} {{ return('false') }} {%- endif -%}
    {%- set notes -%}
        (
            select customer_id as _customer_id, month as _month, model as _model
            from {{ realtime_insights.run_state_relation('changed_subjects') }}
            where not is_whole and run_number > {{ state.after }} and model in ({{ realtime_insights._texts(state.tables) }})
        ) as noted
    {%- endset -%}
    {%- set condition = customer ~ ' in (select _customer_id from ' ~ notes ~ ')' -%}
    {%- if month is not none -%}
        {#- What comes by way of a mart by customer concerns all months. The customers first: engines
            look up equal keys by hash, not the two conditions at once. -#}
        {%- set any_month = '_month is null' ~ (
            ' or _model in (' ~ realtime_insights._texts(state.monthless) ~ ')' if state.monthless else ''
        ) -%}
        {%- set condition = condition ~ ' and (' ~ customer ~ ' in (select _customer_id from ' ~ notes ~ ' where ' ~ any_month
            ~ ') or exists (select 1 from ' ~ notes ~ ' where noted._customer_id = ' ~ customer ~ ' and noted._month = ' ~ month ~ '))' -%}
    {%- endif -%}
    {{ return('(' ~ condition ~ (' or ' ~ customer ~ ' is null' if state.concerns_nobody else '') ~ ')') }}
{%- endmacro %}

{% macro _texts(values) -%}
    {{ return("'" ~ values | join("', '") ~ "'") }}
{%- endmacro %}
