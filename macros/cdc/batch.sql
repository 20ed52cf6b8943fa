{#
    The changes that a run applies to a CDC table, in the shape in which `cdc_current` and
    `cdc_history` use them. While a model is built they are written to a temporary table first: the
    JSON is parsed once, what reads them twice reads typed columns, and what became of every record
    can be counted. Elsewhere (`dbt compile`, `dbt show`, unit tests) the same SELECT stands inline.
    Where no feed brought anything, and the table is what it was built as, there is no batch.

    Returns a dict:
        relation    what follows FROM
        columns     names of the business columns that are written
        types       dict of column to type, `_sequence` among them; empty where nothing is built
        slots       what a change may leave unset, see `_cdc_slots`
        vanished    columns that only the existing table has: dict of name to type
        run_number  number of the run, 0 where nothing is built
        is_empty    true where there is nothing to apply

    Columns of the batch: keys, columns, `_has_<slot>`, the state columns of `_state_columns()`,
    `_is_truncate`, and `_unusable`: why a record is left out, or NULL. Where an expectation may stop
    the feed also `_broken_rules`.
#}
{% macro _cdc_batch(options) -%}
    {%- set inputs = options.changes or [options.snapshots] -%}
    {%- set batch = {
        'columns': options.columns, 'types': {}, 'vanished': {}, 'run_number': 0, 'is_empty': false,
    } -%}
    {%- set keeps_values = options.partial or options.updated_columns
        or options.ignore_null_updates or options.ignore_null_updates_except is not none -%}
    {%- set input_columns = {} -%}
    {%- if options.columns is none or options.ignore_null_updates or options.ignore_null_updates_except is not none -%}
        {%- for column in adapter.get_columns_in_relation(inputs[0]) -%}
            {%- do input_columns.update({column.name: column}) -%}
        {%- endfor -%}
        {%- if not input_columns -%}
            {%- do realtime_insights._refuse(
                'columns', inputs[0] ~ ' is not built, so that its columns are not known', 'build it first, or name the columns',
            ) -%}
        {%- endif -%}
    {%- endif -%}
    {%- if options.columns is none -%}
        {%- set left_out = options['keys'] + (options.except_columns or []) + realtime_insights._change_column_names()
            + ([options.updated_columns] if options.updated_columns else []) -%}
        {%- for column in options.except_columns or [] if column not in input_columns -%}
            {%- do realtime_insights._refuse(
                'except_columns', column ~ ' is not a column of ' ~ inputs[0], 'take it out of the list',
            ) -%}
        {%- endfor -%}
        {%- set columns = [] -%}
        {%- for column in input_columns if column not in left_out and not column.startswith('_has_') -%}
            {%- do columns.append(column) -%}
        {%- endfor -%}
        {%- do batch.update({'columns': columns}) -%}
        {%- do realtime_insights._check_columns_exist(options, batch.columns) -%}
        {%- do realtime_insights._check_subject(options.subject, options['keys'] + batch.columns) -%}
    {%- endif -%}
    {%- do batch.update({
        'slots': realtime_insights._cdc_slots(options, batch.columns, input_columns),
        'stopping': realtime_insights._stopping_inputs(inputs),
    }) -%}

    {%- if not realtime_insights._is_built() -%}
        {%- do batch.update({'relation': '(' ~ realtime_insights._cdc_batch_sql(options, batch, 'true', options.once) ~ ') as batch'}) -%}
        {{ return(batch) }}
    {%- endif -%}

    {%- set state = realtime_insights._run_state() -%}
    {%- do realtime_insights._check_full_refresh(state) -%}
    {%- set once = [] -%}
    {%- for relation in options.once if not is_incremental() or realtime_insights._once_feed(relation) not in state.read -%}
        {%- do once.append(relation) -%}
    {%- endfor -%}
    {%- set window = realtime_insights.in_window(state) -%}
    {%- if is_incremental() and window == '(false)' and not once
            and realtime_insights._is_as_built(options, batch, state.definition) -%}
        {%- do realtime_insights._notes().update({'nothing_new': true}) -%}
        {%- do batch.update({'is_empty': true}) -%}
        {{ return(batch) }}
    {%- endif -%}
    {%- set relation = realtime_insights.cdc_batch_relation() -%}
    {%- do realtime_insights._create_batch(
        relation, realtime_insights._cdc_batch_sql(options, batch, window, once)
    ) -%}
    {%- do batch.update({'relation': relation, 'run_number': state.run_number}) -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- do batch.types.update({column.name: column.dtype}) -%}
    {%- endfor -%}
    {%- set definition = realtime_insights._cdc_definition(options, batch.types['_sequence'], batch.columns) -%}
    {%- do realtime_insights._notes().update({'definition': definition, 'back_fills': once | length > 0}) -%}
    {%- do realtime_insights._check_types(options, batch, state.definition, definition) -%}
    {%- if batch.stopping -%} {%- do realtime_insights._check_expectations(batch.stopping, relation) -%} {%- endif -%}
    {%- if options.snapshots is not none and is_incremental() -%}
        {%- do realtime_insights._check_snapshot_order(options, relation) -%}
    {%- endif -%}
    {%- if options.snapshots is not none or options.truncate_when is not none -%}
        {#- What such records mean takes more than one look at them: it is worked out once. -#}
        {%- set derived = realtime_insights.cdc_batch_relation('__changes') -%}
        {%- do realtime_insights._create_batch(
            derived, 'with ' ~ realtime_insights._cdc_changes(options, batch) ~ ' select * from changes'
        ) -%}
        {%- do batch.update({'changes': derived}) -%}
    {%- endif -%}
    {%- if options.subject is not none and not is_incremental() -%}
        {%- do realtime_insights._note_whole_table(state.run_number) -%}
    {%- endif -%}
    {{ return(batch) }}
{%- endmacro %}

{# True where the table was built with these options and columns. #}
{% macro _is_as_built(options, batch, built_with) -%}
    {%- if built_with is none -%} {{ return(false) }} {%- endif -%}
    {%- set sequence_type = fromjson(built_with).sequence_type -%}
    {{ return(built_with == realtime_insights._cdc_definition(options, sequence_type, batch.columns)) }}
{%- endmacro %}

{# One SELECT over all inputs of a table. #}
{% macro _cdc_batch_sql(options, batch, window, once) -%}
    {%- for relation in options.changes or [options.snapshots] %}
    {{ 'union all' if not loop.first }}
    select
        {{ realtime_insights._cdc_batch_columns(options, batch, none) }}
        {%- if batch.stopping %},
        {{ '_broken_rules' if relation.render() in batch.stopping else 'cast(null as ' ~ dbt.type_string() ~ ') as _broken_rules' }}
        {%- endif %}
    from {{ relation }}
    where {{ window }}
    {%- endfor %}
    {%- for relation in once %}
    union all
    select
        {{ realtime_insights._cdc_batch_columns(options, batch, relation) }}
        {%- if batch.stopping %},
        cast(null as {{ dbt.type_string() }}) as _broken_rules
        {%- endif %}
    from {{ relation }}
    {%- endfor %}
{%- endmacro %}

{#
    The columns of the batch from one input. `once` is none, or the back-fill relation: that needs
    only keys, columns and sequence, and stands before all live changes of the same sequence.
#}
{% macro _cdc_batch_columns(options, batch, once) -%}
    {%- set q = adapter.quote -%}
    {%- set sequence = realtime_insights._sequence_of(options) -%}
    {%- set has = [] -%}
    {%- if once -%}
        {%- for column in adapter.get_columns_in_relation(once) -%} {%- do has.append(column.name) -%} {%- endfor -%}
    {%- endif -%}
    {%- set delete_when = none if once and options.delete_when == '_is_deleted' and '_is_deleted' not in has
        else options.delete_when -%}
    {%- set truncate = 'coalesce(' ~ options.truncate_when ~ ', false)' if options.truncate_when and not once -%}
    {%- set deleted = ['coalesce(' ~ delete_when ~ ', false)'] if delete_when else [] -%}
    {%- set gone = (deleted + ([truncate] if truncate else [])) | join(' or ') -%}
    {%- for key in options['keys'] %}
        {{ 'case when not ' ~ truncate ~ ' then ' ~ q(key) ~ ' end as ' ~ q(key) if truncate else q(key) }},
    {%- endfor %}
    {%- for column in batch.columns %}
        {{ 'case when not (' ~ gone ~ ') then ' ~ q(column) ~ ' end as ' ~ q(column) if gone else q(column) }},
    {%- endfor %}
    {%- for slot in batch.slots %}
        {{ slot.has_once if once else slot.has }} as _has_{{ slot.name }},
    {%- endfor %}
        {{ gone or 'false' }} as _is_deleted,
        {{ sequence }} as _sequence,
    {%- if once %}
        {{ '_changed_at' if '_changed_at' in has else 'cast(null as timestamp) as _changed_at' }},
        '{{ realtime_insights._once_feed(once) }}' as _feed,
        cast(0 as bigint) as batch_id,
        '{{ once.identifier }}' as _source,
        cast(0 as int) as _partition,
        cast(0 as bigint) as _position,
    {%- else %}
        _changed_at,
        _feed,
        batch_id,
        _source,
        _partition,
        _position,
    {%- endif %}
        {{ truncate or 'false' }} as _is_truncate,
        case
            {%- if not once %}
            when _reject_reason is not null then _reject_reason
            {%- endif %}
            {%- for key in options['keys'] %}
            when {{ q(key) }} is null{{ ' and not ' ~ truncate if truncate }} then 'no key {{ key }} for this table'
            {%- endfor %}
            {%- for column in options.sequence %}
            when {{ q(column) }} is null then 'no sequence {{ column }} for this table'
            {%- endfor %}
        end as _unusable
{%- endmacro %}

{# The inputs with expectations that stop their feed: a dict of relation to node. #}
{% macro _stopping_inputs(inputs) -%}
    {%- set stopping = {} -%}
    {%- for relation in inputs -%}
        {%- set node = realtime_insights._staging_node(relation) -%}
        {%- if node is not none and realtime_insights._stopping_rules(node) -%}
            {%- do stopping.update({relation.render(): node}) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(stopping) }}
{%- endmacro %}

{#
    Stops the model, before anything is written, where a record of its batch breaks a rule whose
    action is `fail`. The watermark stays: the next run reads the same records again.
#}
{% macro _check_expectations(stopping, relation) -%}
    {%- set rows = run_query(
        'select _feed, _broken_rules, count(*), min(batch_id), max(batch_id) from ' ~ relation
        ~ ' where _broken_rules is not null group by _feed, _broken_rules'
    ).rows -%}
    {%- for node in stopping.values() -%}
        {%- for rule in realtime_insights._stopping_rules(node) -%}
            {%- set broken = namespace(records=0, batches=[], feed='') -%}
            {%- for row in rows if row[0] in realtime_insights.feeds_of(node) and rule.name in row[1].split(',') -%}
                {%- set broken.records = broken.records + row[2] | int -%}
                {%- set broken.batches = broken.batches + [row[3] | int, row[4] | int] -%}
                {%- set broken.feed = row[0] -%}
            {%- endfor -%}
            {%- if broken.records -%}
                {%- set first, last = broken.batches | min, broken.batches | max -%}
                {%- do exceptions.raise_compiler_error(
                    'feed ' ~ broken.feed ~ ' is stopped: ' ~ broken.records ~ ' record(s) of batches ' ~ first ~ ' to '
                    ~ last ~ ' break the expectation ' ~ rule.name ~ ' of ' ~ node.name ~ ' (' ~ rule.expression
                    ~ '). Nothing was written to ' ~ model.name ~ "; other feeds go on. See them: select * from "
                    ~ realtime_insights._relation_of(node) ~ " where _broken_rules like '%" ~ rule.name ~ "%' and batch_id between "
                    ~ first ~ ' and ' ~ last ~ '. Fix: mend the cause, exempt them in the expression, or set on_violation '
                    ~ 'to drop or warn; the next run applies the batches.'
                ) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
{%- endmacro %}

{# The sequence of a change as one value: a struct where several columns order the changes. #}
{% macro _sequence_of(options) -%}
    {%- if options.sequence | length == 1 -%} {{ return(adapter.quote(options.sequence[0])) }} {%- endif -%}
    {%- set fields = {} -%}
    {%- for column in options.sequence -%} {%- do fields.update({column: adapter.quote(column)}) -%} {%- endfor -%}
    {{ return(realtime_insights.struct_of(fields)) }}
{%- endmacro %}

{% macro _once_feed(relation) -%} {{ return('once:' ~ relation.identifier) }} {%- endmacro %}

{#
    The values that a change may leave unset, each of which keeps what stands: a list of dicts with
    `name`, `column`, `path` (the column, or a field inside it) and `has`, the condition under which
    a change sets it.
#}
{% macro _cdc_slots(options, columns, input_columns) -%}
    {%- set slots = [] -%}
    {%- for column in columns -%}
        {%- set conditions = [] -%}
        {%- if column in (options.partial or []) -%} {%- do conditions.append('_has_' ~ column) -%} {%- endif -%}
        {%- if options.updated_columns -%}
            {%- do conditions.append(
                '(' ~ adapter.quote(options.updated_columns) ~ ' is null or array_contains('
                ~ adapter.quote(options.updated_columns) ~ ", '" ~ column ~ "'))"
            ) -%}
        {%- endif -%}
        {%- set ignores_null = column not in options.ignore_null_updates_except
            if options.ignore_null_updates_except is not none
            else column in options.ignore_null_updates
            if options.ignore_null_updates is sequence
            else options.ignore_null_updates -%}
        {%- if ignores_null -%}
            {%- for path in realtime_insights._leaves([column], input_columns.get(column)) -%}
                {%- set value = realtime_insights._field(path) -%}
                {%- do slots.append({
                    'name': path | join('__'), 'column': column, 'path': path,
                    'has': (conditions + [value ~ ' is not null']) | join(' and '),
                    'has_once': value ~ ' is not null',
                }) -%}
            {%- endfor -%}
        {%- elif conditions -%}
            {%- do slots.append({
                'name': column, 'column': column, 'path': [column],
                'has': conditions | join(' and '), 'has_once': 'true',
            }) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(slots) }}
{%- endmacro %}

{# The paths of the values inside a column: itself, or the fields of a struct, to any depth. #}
{% macro _leaves(path, column) -%}
    {%- set fields = realtime_insights.struct_fields(column) if column is not none else {} -%}
    {%- if not fields -%} {{ return([path]) }} {%- endif -%}
    {%- set leaves = [] -%}
    {%- for name, type in fields.items() -%}
        {%- do leaves.extend(realtime_insights._leaves(
            path + [name], api.Column.create(name, type)
        )) -%}
    {%- endfor -%}
    {{ return(leaves) }}
{%- endmacro %}

{% macro _field(path, prefix='') -%}
    {%- set parts = [] -%}
    {%- for name in path -%} {%- do parts.append(adapter.quote(name)) -%} {%- endfor -%}
    {{ return(prefix ~ parts | join('.')) }}
{%- endmacro %}

{#
    A column put together from its slots. `values` maps the name of a slot to its expression; a
    struct whose fields are all NULL is NULL.
#}
{% macro _from_slots(path, slots, values) -%}
    {%- for slot in slots if slot.path == path -%} {{ return(values[slot.name]) }} {%- endfor -%}
    {%- set fields = {} -%}
    {%- set all_null = [] -%}
    {%- for slot in slots if slot.path[:path | length] == path -%}
        {%- set name = slot.path[path | length] -%}
        {%- do fields.update({name: realtime_insights._from_slots(path + [name], slots, values)}) -%}
        {%- do all_null.append(values[slot.name] ~ ' is null') -%}
    {%- endfor -%}
    {{ return('case when not (' ~ all_null | join(' and ') ~ ') then ' ~ realtime_insights.struct_of(fields) ~ ' end') }}
{%- endmacro %}

{#
    Refuses, before anything is written, a sequence that cannot be ordered, a column whose type has
    changed, and a definition other than the one that the table was built with.
#}
{% macro _check_types(options, batch, built_with, definition) -%}
    {%- set unordered = ['map', 'json', 'variant', 'union', 'object'] -%}
    {%- if batch.types['_sequence'].split('(')[0].split('<')[0].strip() | lower in unordered -%}
        {%- do realtime_insights._refuse(
            'sequence', options.sequence | join(', ') ~ ' is of type ' ~ batch.types['_sequence'] ~ ', which has no order',
            'name a column that can be ordered, such as a number, a text or a time',
        ) -%}
    {%- endif -%}
    {%- if is_incremental() -%}
        {%- if built_with is not none -%}
            {%- do realtime_insights._check_definition(built_with, definition) -%}
        {%- endif -%}
        {%- set own = options['keys'] + batch.columns -%}
        {%- set standing = adapter.get_columns_in_relation(this) -%}
        {%- for column in standing -%}
            {%- if column.name in own and batch.types[column.name] | lower != column.dtype | lower -%}
                {%- do exceptions.raise_compiler_error(
                    'model ' ~ model.name ~ ': column ' ~ column.name ~ ' is now of type ' ~ batch.types[column.name]
                    ~ ', the table has ' ~ column.dtype ~ '. Nothing was written. Fix: cast it back, or dbt run '
                    ~ '--full-refresh --select ' ~ model.name ~ '.'
                ) -%}
            {%- elif column.name not in own and not column.name.startswith('_')
                    and column.name not in realtime_insights._state_columns() + realtime_insights._period_columns() -%}
                {%- do batch.vanished.update({column.name: column.dtype}) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- do batch.update({'new': own | reject('in', standing | map(attribute='name') | list) | list}) -%}
    {%- endif -%}
{%- endmacro %}

{# Where the batch of this model is kept while it is applied. #}
{% macro cdc_batch_relation(suffix='__batch') -%}
    {{ return(adapter.dispatch('cdc_batch_relation', 'realtime_insights')(suffix)) }}
{%- endmacro %}

{# A table beside the model: temporary views would read and parse bronze once more for each use. #}
{% macro default__cdc_batch_relation(suffix) -%}
    {{ return(this.incorporate(path={'identifier': this.identifier ~ suffix}, type='table')) }}
{%- endmacro %}

{% macro duckdb__cdc_batch_relation(suffix) -%}
    {{ return(api.Relation.create(identifier=this.identifier ~ suffix, type='table')) }}
{%- endmacro %}

{% macro _create_batch(relation, sql) -%}
    {{ return(adapter.dispatch('_create_batch', 'realtime_insights')(relation, sql)) }}
{%- endmacro %}

{% macro default___create_batch(relation, sql) -%}
    {%- do run_query('create or replace table ' ~ relation ~ ' using delta as ' ~ sql) -%}
{%- endmacro %}

{% macro duckdb___create_batch(relation, sql) -%}
    {%- do run_query('create or replace temporary table ' ~ relation ~ ' as ' ~ sql) -%}
{%- endmacro %}

{# What the state tables keep of a change beside its business columns. #}
{% macro _state_columns() -%}
    {{ return([
        '_is_deleted', '_sequence', '_changed_at', '_feed', 'batch_id',
        '_source', '_partition', '_position',
    ]) }}
{%- endmacro %}

{# What a history keeps beside that. #}
{% macro _period_columns() -%}
    {{ return(['valid_from', 'valid_to', 'valid_from_at', 'valid_to_at']) }}
{%- endmacro %}

{# Arrival in bronze, as columns to order by. Within one batch, the same at every rebuild. #}
{% macro _arrival_order(direction='', prefix='') -%}
    {%- for column in ['batch_id', '_source', '_partition', '_position'] -%}
        {{ prefix }}{{ column }}{{ direction }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{# True where row `a` comes after row `b`: by sequence, of the same sequence by arrival. #}
{% macro _is_later(a, b) -%}
    (
        {{ a }}._sequence > {{ b }}._sequence
        or ({{ a }}._sequence = {{ b }}._sequence and {{ a }}.batch_id > {{ b }}.batch_id)
        or (
            {{ a }}._sequence = {{ b }}._sequence and {{ a }}.batch_id = {{ b }}.batch_id
            and {{ a }}._source > {{ b }}._source
        )
        or (
            {{ a }}._sequence = {{ b }}._sequence and {{ a }}.batch_id = {{ b }}.batch_id
            and {{ a }}._source = {{ b }}._source and {{ a }}._partition > {{ b }}._partition
        )
        or (
            {{ a }}._sequence = {{ b }}._sequence and {{ a }}.batch_id = {{ b }}.batch_id
            and {{ a }}._source = {{ b }}._source and {{ a }}._partition = {{ b }}._partition
            and {{ a }}._position > {{ b }}._position
        )
    )
{%- endmacro %}

{# The same keys in two rows. `null_safe` where rows without keys are kept (truncates, snapshots). #}
{% macro _same_keys(keys, a, b, null_safe=false) -%}
    {%- for key in keys -%}
        {{ 'and ' if not loop.first }}{{ a }}.{{ adapter.quote(key) }}
        {{- ' is not distinct from ' if null_safe else ' = ' }}{{ b }}.{{ adapter.quote(key) }}
        {{- '\n            ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{# Names as identifiers: a source may call a column `at` or `order`. #}
{% macro _quoted(names) -%}
    {%- set quoted = [] -%}
    {%- for name in names -%} {%- do quoted.append(adapter.quote(name)) -%} {%- endfor -%}
    {{ return(quoted) }}
{%- endmacro %}
