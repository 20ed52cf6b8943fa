{#
    Reads the options of `cdc_current` and `cdc_history` and refuses what is wrong or contradictory,
    before anything is written: the error names the model, the option and the fix.

    Returns a dict in which every option is set: lists where lists are meant, `columns` none where
    all columns of the changes are to be written.
#}
{% macro _cdc_options(kind, given, unknown) -%}
    {%- set known = given.keys() | list -%}
    {%- for name in unknown -%}
        {%- do realtime_insights._refuse(name, 'there is no such option', 'options are: ' ~ known | join(', ')) -%}
    {%- endfor -%}
    {%- set options = dict(given, kind=kind) -%}

    {%- if (given.changes is none) == (given.snapshots is none) -%}
        {%- do realtime_insights._refuse(
            'changes', 'a table is made of changes or of snapshots',
            "name one of them, e.g. changes=[ref('stg_bank__customers')]",
        ) -%}
    {%- endif -%}
    {%- for name in ['changes', 'once'] -%}
        {%- set value = given[name] -%}
        {%- set is_list = value is sequence and value is not string and value is not mapping -%}
        {%- do options.update({name: [] if value is none else value | list if is_list else [value]}) -%}
    {%- endfor -%}

    {%- for name in ['keys', 'columns', 'except_columns', 'partial', 'track', 'track_except',
                     'ignore_null_updates_except'] -%}
        {%- set value = given.get(name) -%}
        {%- if value is string or value is mapping or (value is not none and value is not sequence) -%}
            {%- do realtime_insights._refuse(name, 'it is a list of columns', 'write ' ~ name ~ "=['...']") -%}
        {%- elif value is not none and value | unique | list | length < value | length -%}
            {%- do realtime_insights._refuse(name, 'a column is named twice', 'name it once') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if not given['keys'] -%}
        {%- do realtime_insights._refuse('keys', 'a table needs at least one key column', "write keys=['...']") -%}
    {%- endif -%}

    {%- if given.columns is not none and given.except_columns is not none -%}
        {%- do realtime_insights._refuse(
            'except_columns', 'it excludes the option columns', 'keep one of the two',
        ) -%}
    {%- endif -%}
    {%- for key in given['keys'] if key in (given.except_columns or []) -%}
        {%- do realtime_insights._refuse('except_columns', key ~ ' is a key', 'take it out of the list') -%}
    {%- endfor -%}
    {%- if given.columns is not none -%}
        {%- do options.update({'columns': given.columns | reject('in', given['keys']) | list}) -%}
    {%- endif -%}

    {%- set sequence = [given.sequence] if given.sequence is string else given.sequence -%}
    {%- if not sequence -%}
        {%- do realtime_insights._refuse(
            'sequence', 'changes need an order', "name a column, several, or leave it out for `_sequence`",
        ) -%}
    {%- endif -%}
    {%- do options.update({'sequence': sequence | list}) -%}

    {%- if given.ignore_null_updates is not sameas false and given.ignore_null_updates is not sameas true
            and (given.ignore_null_updates is string or given.ignore_null_updates is not sequence) -%}
        {%- do realtime_insights._refuse(
            'ignore_null_updates', 'it is true, false or a list of columns', "write ignore_null_updates=true",
        ) -%}
    {%- endif -%}
    {%- if given.ignore_null_updates is not sameas false and given.ignore_null_updates is not sameas true
            and given.ignore_null_updates_except is not none -%}
        {%- do realtime_insights._refuse(
            'ignore_null_updates_except', 'it excludes a list in ignore_null_updates', 'keep one of the two',
        ) -%}
    {%- endif -%}

    {%- if given.updated_columns is not none
            and (given.ignore_null_updates is not sameas false or given.ignore_null_updates_except is not none) -%}
        {%- do realtime_insights._refuse(
            'updated_columns', 'it excludes ignore_null_updates: a record that names its columns means its NULLs',
            'keep one of the two',
        ) -%}
    {%- endif -%}

    {%- if kind == 'history' -%}
        {%- if given.truncate_when is not none -%}
            {%- do realtime_insights._refuse(
                'truncate_when', 'a truncate has no meaning in a history', 'use cdc_current, or leave it out',
            ) -%}
        {%- endif -%}
        {%- if given.track is not none and given.track_except is not none -%}
            {%- do realtime_insights._refuse('track_except', 'it excludes the option track', 'keep one of the two') -%}
        {%- endif -%}
    {%- endif -%}

    {%- if given.snapshots is not none -%}
        {%- for name, unset in {
            'once': none, 'delete_when': '_is_deleted', 'truncate_when': none, 'partial': none,
            'ignore_null_updates': false, 'ignore_null_updates_except': none, 'updated_columns': none,
        }.items() if given.get(name, unset) not in [unset, []] -%}
            {%- do realtime_insights._refuse(
                name, 'a snapshot holds whole rows and no operations', 'leave it out beside snapshots',
            ) -%}
        {%- endfor -%}
    {%- endif -%}

    {%- if given.columns is not none -%}
        {%- do realtime_insights._check_columns_exist(options, options.columns) -%}
        {%- do realtime_insights._check_subject(options.subject, options['keys'] + options.columns) -%}
    {%- endif -%}
    {{ return(options) }}
{%- endmacro %}

{# Options that name columns name columns that are written. #}
{% macro _check_columns_exist(options, columns) -%}
    {%- set lists = {
        'partial': options.partial, 'track': options.track, 'track_except': options.get('track_except'),
        'ignore_null_updates': options.ignore_null_updates,
        'ignore_null_updates_except': options.ignore_null_updates_except,
    } -%}
    {%- for name, value in lists.items() if value is sequence and value is not string -%}
        {%- for column in value if column not in columns -%}
            {%- do realtime_insights._refuse(
                name, column ~ ' is not a column of this table', 'its columns are ' ~ columns | join(', '),
            ) -%}
        {%- endfor -%}
    {%- endfor -%}
{%- endmacro %}

{# A wrong option of this model, as a compile error. #}
{% macro _refuse(option, reason, fix) -%}
    {%- do exceptions.raise_compiler_error(
        'model ' ~ model.name ~ ', option ' ~ option ~ ': ' ~ reason ~ '. Fix: ' ~ fix ~ '.'
    ) -%}
{%- endmacro %}

{#
    What the table is, as text that is kept with it: a table that exists is not written with another
    meaning. New and vanished columns are no change of meaning; `columns` says which were written last.
#}
{% macro _cdc_definition(options, sequence_type, columns) -%}
    {{ return(tojson({
        'kind': options.kind,
        'keys': options['keys'],
        'sequence': options.sequence,
        'sequence_type': sequence_type | lower,
        'track': options.get('track'),
        'track_except': options.get('track_except'),
        'columns': columns,
        'keeps': {
            'partial': options.partial,
            'ignore_null_updates': options.ignore_null_updates,
            'ignore_null_updates_except': options.ignore_null_updates_except,
            'updated_columns': options.updated_columns,
        },
    }, sort_keys=true)) }}
{%- endmacro %}

{# Refuses a definition that differs from the one that the existing table was built with. #}
{% macro _check_definition(built_with, definition) -%}
    {%- set before = fromjson(built_with) -%}
    {%- set now = fromjson(definition) -%}
    {%- set names = {
        'kind': 'kind of table', 'keys': 'keys', 'sequence': 'sequence', 'sequence_type': 'type of the sequence',
        'track': 'track', 'track_except': 'track_except', 'keeps': 'columns that a change may leave unset',
    } -%}
    {%- for name, label in names.items() if before[name] != now[name] -%}
        {%- do exceptions.raise_compiler_error(
            'model ' ~ model.name ~ ': the table was built with another ' ~ label ~ ' (' ~ before[name]
            ~ ', now ' ~ now[name] ~ '). Nothing was written. Fix: dbt run --full-refresh --select '
            ~ model.name ~ ', or take the change back.'
        ) -%}
    {%- endfor -%}
{%- endmacro %}
