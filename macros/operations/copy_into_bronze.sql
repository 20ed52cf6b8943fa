{#
    dbt run-operation copy_into_bronze --args '{feed: vendor_dining, path: /Volumes/main/bronze/landing/dining, format: ndjson}'

    Lands the files of a folder in the bronze table of a feed by COPY INTO, for partners who leave
    files in a volume or bucket where no `ingest` runs. COPY INTO remembers which files it has read,
    so that each is landed once, however often this runs and wherever it was interrupted.

    The rows get the columns that `ingest` gives them, and keep bronze's invariants so:

    * an address stands once: `source` is the file, `position` the number of the record in it, counted
      by the place of its block in the file and its order there;
    * `batch_id` grows in the order in which commits become visible: COPY INTO lands rows without one,
      which no reader sees, since all ask for batches above a watermark. A MERGE then gives all of them
      the next id, which it reads from the same snapshot of the table that it changes. Of two that
      run at once, both change the same rows, and Delta refuses the second;
    * a run that ends between the two statements leaves rows without an id, and the next one gives
      them theirs.

    A feed is landed by this or by `ingest`, never by both: they would give out the same id. So the
    table is made here, with the property `realtime_insights.landed_by`, and one without it refused.

    There is no quarantine: what is no record is landed as it stands and rejected by its staging model,
    with its address, in `rejected_changes`. A file that changes after it was landed is not read again.

    feed      a table of the source `bronze`
    path      folder or URL whose files are landed; a volume, or within an external location
    format    ndjson or text: a record is a line; csv or tsv: a row, landed as a JSON object of texts
    pattern   which files, as a glob below `path`; default: all
    options   dict of further FORMAT_OPTIONS, e.g. {delimiter: ";"}
#}
{% macro copy_into_bronze(feed, path, format='ndjson', pattern=none, options=none) -%}
    {%- if execute -%}
        {%- set found = graph.sources.values() | selectattr('source_name', 'equalto', 'bronze')
            | selectattr('name', 'equalto', feed) | list -%}
        {%- if not found -%}
            {%- do exceptions.raise_compiler_error('copy_into_bronze: ' ~ feed ~ ' is no table of the source bronze') -%}
        {%- endif -%}
        {%- set relation = realtime_insights._source_relation(found[0]) -%}
        {%- do adapter.create_schema(relation.without_identifier()) -%}
        {%- for statement in realtime_insights.copy_into_statements(relation, path, format, pattern, options) -%}
            {%- if loop.index == 2 -%} {%- do realtime_insights._check_landed_by_copy(relation) -%} {%- endif -%}
            {%- do run_query(statement) -%}
        {%- endfor -%}
        {%- set landed = run_query('select max(batch_id), count(*) from ' ~ relation).rows[0] -%}
        {%- do print(relation ~ ': ' ~ landed[1] ~ ' rows, last batch ' ~ landed[0]) -%}
    {%- endif -%}
{%- endmacro %}

{# The statements, in their order: make the table, land the files, give the batch its id. #}
{% macro copy_into_statements(relation, path, format, pattern=none, options=none) -%}
    {{ return(adapter.dispatch('copy_into_statements', 'realtime_insights')(relation, path, format, pattern, options)) }}
{%- endmacro %}

{% macro default__copy_into_statements(relation, path, format, pattern, options) -%}
    {%- do exceptions.raise_compiler_error('copy_into_bronze: this engine has no COPY INTO; land files with ingest') -%}
{%- endmacro %}

{#
    https://docs.databricks.com/aws/en/sql/language-manual/delta-copy-into: the expressions of its
    SELECT may be window functions.
    https://docs.databricks.com/aws/en/ingestion/file-metadata-column
#}
{% macro databricks__copy_into_statements(relation, path, format, pattern, options) -%}
    {%- set formats = {
        'ndjson': {'fileformat': 'text', 'value': 'value', 'options': {}},
        'text': {'fileformat': 'text', 'value': 'value', 'options': {}},
        'csv': {'fileformat': 'csv', 'value': none, 'options': {'header': 'true'}},
        'tsv': {'fileformat': 'csv', 'value': none, 'options': {'header': 'true', 'delimiter': '\t'}},
    } -%}
    {%- if format not in formats -%}
        {%- do exceptions.raise_compiler_error(
            'copy_into_bronze: there is no format ' ~ format ~ ', formats are ' ~ formats | join(', ')
        ) -%}
    {%- endif -%}
    {%- set how = formats[format] -%}
    {%- set value = how.value or "to_json(struct(*), map('ignoreNullFields', 'false'))" -%}
    {%- set format_options = [] -%}
    {%- for name, setting in dict(how.options, **(options or {})).items() -%}
        {%- do format_options.append(
            realtime_insights.text_literal(name) ~ ' = ' ~ realtime_insights.text_literal(setting | string)
        ) -%}
    {%- endfor -%}

    {%- set create -%}
create table if not exists {{ relation }} (
    source string, `partition` int, position bigint, key string, value string,
    headers map<string, string>, source_timestamp timestamp, ingested_at timestamp, batch_id bigint
) using delta
tblproperties ('realtime_insights.landed_by' = 'copy_into')
    {%- endset -%}

    {%- set copy -%}
copy into {{ relation }}
from (
    select
        _metadata.file_path as source,
        cast(0 as int) as `partition`,
        cast(row_number() over (
            partition by _metadata.file_path
            order by _metadata.file_block_start, monotonically_increasing_id()
        ) as bigint) as position,
        cast(null as string) as key,
        {{ value }} as value,
        map(
            'size', cast(_metadata.file_size as string),
            'mtime_ns', cast(unix_micros(_metadata.file_modification_time) * 1000 as string),
            'format', {{ realtime_insights.text_literal(format) }}
        ) as headers,
        _metadata.file_modification_time as source_timestamp,
        current_timestamp() as ingested_at,
        cast(null as bigint) as batch_id
    from {{ realtime_insights.text_literal(path) }}
)
fileformat = {{ how.fileformat | upper }}
{%- if pattern %}
pattern = {{ realtime_insights.text_literal(pattern) }}
{%- endif %}
{%- if format_options %}
format_options ({{ format_options | join(', ') }})
{%- endif %}
copy_options ('force' = 'false')
    {%- endset -%}

    {%- set number -%}
merge into {{ relation }} as landed
using (select coalesce(max(batch_id), 0) + 1 as batch_id from {{ relation }}) as next
    on landed.batch_id is null
when matched then update set landed.batch_id = next.batch_id
    {%- endset -%}
    {{ return([create, copy, number]) }}
{%- endmacro %}

{# Refuses a table that `ingest` writes to. #}
{% macro _check_landed_by_copy(relation) -%}
    {%- set properties = {} -%}
    {%- for row in run_query('show tblproperties ' ~ relation).rows -%}
        {%- do properties.update({row[0]: row[1]}) -%}
    {%- endfor -%}
    {%- if properties.get('realtime_insights.landed_by') != 'copy_into' -%}
        {%- do exceptions.raise_compiler_error(
            'copy_into_bronze: ' ~ relation ~ ' is landed by ingest. Nothing was landed. Fix: land a feed in one'
            ~ ' way only, or drop the table if ingest is to land it no more.'
        ) -%}
    {%- endif -%}
{%- endmacro %}
