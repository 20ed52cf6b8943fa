{#
    Records without an envelope: private parts of the macros for flat formats. A relation is read as
    a CTE `fields` with one text per field (`_text_<field>`), `_value` (bronze only) and the bronze
    address.
#}

{#
    From bronze: JSON objects, as landed. With `tombstones` the records without a value stay. A text
    that is `null_text` is NULL: CSV has no other way to say so.
#}
{% macro _landed_fields(relation, feed, fields, tombstones=false, null_text=none) -%}
    {%- set document = {} -%}
    {%- for name in fields -%} {%- do document.update({name: none}) -%} {%- endfor -%}
landed as (
    select
        {{ realtime_insights._bronze_address(feed) }},
        {{ realtime_insights.json_struct('value', document) }} as _document
    from {{ relation }}
    {%- if not tombstones %}
    where value is not null
    {%- endif %}
),

fields as (
    select
        *,
        {%- for name in document %}
        {% if null_text is not none -%}
        nullif(_document.{{ adapter.quote(name) }}, '{{ null_text }}')
        {%- else -%}
        _document.{{ adapter.quote(name) }}
        {%- endif %} as {{ realtime_insights._text(name) }}{{ ',' if not loop.last }}
        {%- endfor %}
    from landed
)
{%- endmacro %}

{#
    From a table that a partner's connector writes. `written_at` is the column that says when the
    connector wrote the row: it becomes `batch_id`. Without a column for it, the position is made of
    the key and the `identity` columns: it is the same whenever the table is read.
#}
{% macro _table_fields(
    relation, feed, fields, keys, written_at, identity=[], source=none, partition=none, position=none
) -%}
    {%- set written_at = 'cast(' ~ adapter.quote(written_at) ~ ' as timestamp)' -%}
    {%- set texts = [] -%}
    {%- for name in (keys + identity) | unique -%}
        {%- do texts.append("coalesce(cast(" ~ adapter.quote(name) ~ " as string), '')") -%}
    {%- endfor -%}
fields as (
    select
        '{{ feed }}' as _feed,
        {{ realtime_insights.epoch_microseconds(written_at) }} as batch_id,
        {{ 'cast(' ~ adapter.quote(source) ~ ' as string)' if source else "'" ~ feed ~ "'" }} as _source,
        cast({{ adapter.quote(partition) if partition else 0 }} as int) as _partition,
        {% if position -%}
        cast({{ adapter.quote(position) }} as bigint)
        {%- else -%}
        {{ realtime_insights.hexadecimal_number(
            "substr(md5(concat_ws('|', " ~ texts | join(', ') ~ ")), 1, 15)"
        ) }}
        {%- endif %} as _position,
        {{ written_at }} as _source_timestamp,
        {{ written_at }} as _ingested_at,
        {%- for name in fields | unique %}
        cast({{ adapter.quote(name) }} as string)
            as {{ realtime_insights._text(name) }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ relation }}
)
{%- endmacro %}

{# A row of such a table as JSON text, for the records that are rejected. #}
{% macro _table_value(fields) -%}
    {%- set texts = {} -%}
    {%- for name in fields | unique -%}
        {%- do texts.update({name: realtime_insights._text(name)}) -%}
    {%- endfor -%}
    {{ return('cast(to_json(' ~ realtime_insights.sequence_struct(texts) ~ ') as string)') }}
{%- endmacro %}

{#
    The sequence of flat records: a dict of field to type. One field is its typed value, several are
    a struct, compared in this order; NULL if one of them is missing or not of its type.
#}
{% macro _flat_sequence(sequence) -%}
    {%- set parts = {} -%}
    {%- set present = [] -%}
    {%- for name, type in sequence.items() -%}
        {%- set part = realtime_insights.typed(realtime_insights._text(name), type, false) | trim -%}
        {%- do parts.update({name: part}) -%}
        {%- do present.append(part ~ ' is not null') -%}
    {%- endfor -%}
    {%- if parts | length == 1 -%} {{ return(parts.values() | first) }} {%- endif -%}
    {{ return(
        'case when ' ~ present | join(' and ')
        ~ ' then ' ~ realtime_insights.sequence_struct(parts) ~ ' end'
    ) }}
{%- endmacro %}

{# A time that a field holds; NULL without a field. #}
{% macro _flat_time(name) -%}
    {{ return(
        realtime_insights.source_timestamp(realtime_insights._text(name)) if name
        else 'cast(null as timestamp)'
    ) }}
{%- endmacro %}
