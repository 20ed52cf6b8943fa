{#
    Debezium envelopes, landed as text, to change rows: the business columns, typed, and the change
    columns of `change_columns()`.

    The payload is parsed once. Both forms of an envelope are read: bare, and under `payload` as
    with `schemas.enable`. A delete has no `after`, so its key comes from `before`; nothing else of
    `before` is used, because with PostgreSQL's default replica identity the rest is made up.
    A tombstone (no value) repeats the delete before it and is left out.

    relation   bronze relation
    feed       its name, for addresses and watermarks
    columns    dict of source field to type: string, int, bigint, boolean, decimal(p,s), date,
               timestamp (dates and timestamps in any form that Debezium writes)
    keys       list of the fields that identify a row
    large      optional: list of the fields of large columns (TOAST) that PostgreSQL leaves out when
               an update does not change them. For each, `_has_<field>` says whether the change
               holds its value; see `partial` in `cdc_current`. In a field that is not listed, such
               a change is rejected.
    sequence   optional: the field that orders changes of one key, whole numbers in milliseconds
               since the epoch. Default: the log position of the source (`source.lsn`).
#}
{% macro debezium_changes(relation, feed, columns, keys, sequence=none, large=[]) -%}
    {%- set image = {} -%}
    {%- for name in columns -%} {%- do image.update({name: none}) -%} {%- endfor -%}
    {%- set envelope = {
        'op': none,
        'before': image,
        'after': image,
        'source': {'lsn': none, 'ts_ms': none, 'ts_us': none},
    } -%}
    {%- set document = dict(envelope, payload=envelope) -%}
with

landed as (
    select
        {{ realtime_insights._bronze_address(feed) }},
        {{ realtime_insights.json_struct('value', document) }} as document
    from {{ relation }}
    where value is not null
),

envelopes as (
    select
        *,
        coalesce(document.payload.op, document.op) as op,
        coalesce(document.payload.before, document.before) as before_image,
        coalesce(document.payload.after, document.after) as after_image,
        coalesce(document.payload.source, document.source) as source_block
    from landed
),

images as (
    select
        *,
        case when op = 'i' then 'c' else op end as _op,
        coalesce(op = 'd', false) as _is_deleted,
        case when op = 'd' then before_image else after_image end as image,
        {{ realtime_insights.source_timestamp('coalesce(source_block.ts_us, source_block.ts_ms)') }}
            as _changed_at,
        {% if sequence -%}
        case
            when op = 'd' then try_cast(source_block.ts_ms as bigint)
            else try_cast(after_image.{{ adapter.quote(sequence) }} as bigint)
        end as _sequence
        {%- else -%}
        try_cast(source_block.lsn as bigint) as _sequence
        {%- endif %}
    from envelopes
),

{{ realtime_insights._typed_and_checked('images', columns, keys, unless_key='_is_deleted', large=large, checks=[
    ("document is null", "not a JSON document"),
    ("_op = 't'", "truncate: no rule for truncates is set for this table"),
    ("_op is null or _op not in ('c', 'u', 'd', 'r')", "unknown operation"),
    ("image is null", "no row image"),
]) }}
{%- endmacro %}
