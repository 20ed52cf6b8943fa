{#
    Whose rows a run changes: what lets marts compute only the customers (or customer-months) that a
    batch concerns. The option `subject` of a CDC table names its customer column and, optionally, a
    time whose month matters.

    Noted are the customers of the rows that are written *and* of the rows that they replace: a
    tombstone does not say whose row it ends, and a row that moves to another customer concerns both.
    A table that is built whole notes that nothing is known. The notes are written before the rows:
    where the engine has no transactions, a crash between the two means that a mart computes more than
    it must. Table, in the schema `observability`:

        changed_subjects   model (its unique id), customer_id, month (NULL: all of them), run_number,
                           is_whole (the table was built anew; the other columns are NULL then)
#}
{% macro _check_subject(subject, columns) -%}
    {%- if subject is not none -%}
        {%- if subject is not mapping or not subject.get('customer')
                or subject.keys() | reject('in', ['customer', 'at']) | list -%}
            {%- do realtime_insights._refuse(
                'subject', 'it names the customer column and, optionally, a time',
                "write subject={'customer': 'customer_id', 'at': 'transacted_at'}, the second optional",
            ) -%}
        {%- endif -%}
        {%- for column in subject.values() if column not in columns -%}
            {%- do realtime_insights._refuse(
                'subject', column ~ ' is not a column of this table', 'its columns are ' ~ columns | join(', '),
            ) -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}

{# Notes whose rows the staged ones are, and whose they replace. Runs before they are written. #}
{% macro _note_subjects(arg_dict) -%}
    {%- set cdc = model.config.meta.get('cdc') or {} -%}
    {%- if cdc.get('subject') and not realtime_insights._notes().get('nothing_new') -%}
        {%- set rows = realtime_insights._rows_to_note(arg_dict) -%}
        {%- set may_move = cdc.subject.values() | reject('in', cdc['keys']) | list -%}
        {%- set select_subject -%}
            cast({{ adapter.quote(cdc.subject.customer) }} as bigint) as customer_id,
            {{ realtime_insights._month_of(cdc.subject.get('at')) }} as month
        {%- endset -%}
        {%- do run_query(
            'insert into ' ~ realtime_insights.run_state_relation('changed_subjects')
            ~ " select '" ~ model.unique_id ~ "', customer_id, month, " ~ realtime_insights._run_state().run_number
            ~ ', false from (select ' ~ select_subject ~ ' from ' ~ rows ~ ' as staged where '
            ~ realtime_insights._is_noted(cdc.subject)
            ~ (' union select ' ~ select_subject ~ ' from ' ~ this ~ ' as standing where '
                ~ realtime_insights._is_noted(cdc.subject) ~ ' and exists (select 1 from ' ~ rows ~ ' as staged where '
                ~ realtime_insights._same_keys(cdc['keys'], 'staged', 'standing', null_safe=true) ~ ')'
                if may_move)
            ~ (') as subjects' if may_move else ' group by 1, 2) as subjects')
        ) -%}
    {%- endif -%}
{%- endmacro %}

{# A row without a customer is somebody's too; a tombstone without one is nobody's. #}
{% macro _is_noted(subject) -%}
    {{ return('(' ~ adapter.quote(subject.customer) ~ ' is not null or not _is_deleted)') }}
{%- endmacro %}

{% macro _month_of(column) -%}
    {%- if not column -%} {{ return('cast(null as date)') }} {%- endif -%}
    {{ return("cast(date_trunc('month', " ~ adapter.quote(column) ~ ') as date)') }}
{%- endmacro %}

{#
    The rows that are about to be written, or more than these: where the staged rows are a view,
    asking it would compute them once more, and the batch is at hand.
#}
{% macro _rows_to_note(arg_dict) -%}
    {{ return(adapter.dispatch('_rows_to_note', 'realtime_insights')(arg_dict)) }}
{%- endmacro %}

{% macro default___rows_to_note(arg_dict) -%}
    {%- set cdc = model.config.meta.cdc -%}
    {{ return(realtime_insights.cdc_batch_relation('__changes' if cdc.is_snapshot or cdc.truncate_when else '__batch')) }}
{%- endmacro %}

{% macro duckdb___rows_to_note(arg_dict) -%}
    {{ return(arg_dict['temp_relation']) }}
{%- endmacro %}

{# Notes that this table is about to be built whole. #}
{% macro _note_whole_table(run_number) -%}
    {%- do run_query(
        'insert into ' ~ realtime_insights.run_state_relation('changed_subjects') ~ " values ('"
        ~ model.unique_id ~ "', null, null, " ~ run_number ~ ', true)'
    ) -%}
{%- endmacro %}

{#
    Notes of old runs become one note per table that anybody may have changed: a mart that has read
    them already does not mind, one that has not is computed whole.
#}
{% macro _forget_old_subjects(run_number) -%}
    {%- set notes = realtime_insights.run_state_relation('changed_subjects') -%}
    {%- set before = run_number - 1000 -%}
    {%- do run_query(
        'insert into ' ~ notes ~ ' select model, null, null, max(run_number), true from ' ~ notes
        ~ ' where run_number < ' ~ before ~ ' group by model having max(case when is_whole then 0 else 1 end) = 1'
    ) -%}
    {%- do run_query(
        'delete from ' ~ notes ~ ' where run_number < ' ~ before ~ ' and (not is_whole or exists (select 1 from '
        ~ notes ~ ' as later where later.is_whole and later.model = ' ~ notes ~ '.model and later.run_number > '
        ~ notes ~ '.run_number and later.run_number < ' ~ before ~ '))'
    ) -%}
{%- endmacro %}
