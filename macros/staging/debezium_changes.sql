{#
    Debezium envelopes of a relational source, landed as text, to change rows: the business columns,
    typed, and the change columns of `change_columns()`.

    Both forms of an envelope are read: bare, and under `payload` as with `schemas.enable`. A delete
    has no `after`, so its key comes from `before`; nothing else of `before` is read, because with
    PostgreSQL's default replica identity the rest is made up. A tombstone (no value) repeats the
    delete before it and is left out.

    https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
    https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-events
    https://debezium.io/documentation/reference/stable/connectors/sqlserver.html#sqlserver-data-change-events
#}
{% macro debezium_changes(
    relation, feed, columns, keys, sequence=none, large=[], connector='postgresql', servers=[],
    truncates=false
) -%}
    {%- set position = realtime_insights._debezium_position_fields(connector) -%}
    {%- set before = {} -%}
    {%- for name in keys -%} {%- do before.update({name: none}) -%} {%- endfor -%}
    {%- set after = {} -%}
    {%- for name in columns -%} {%- do after.update({name: none}) -%} {%- endfor -%}
    {%- if sequence -%} {%- do after.update({sequence: none}) -%} {%- endif -%}
    {%- set source = {'ts_ms': none, 'ts_us': none} -%}
    {%- for name in position -%} {%- do source.update({name: none}) -%} {%- endfor -%}
    {%- set envelope = {'op': none, 'before': before, 'after': after, 'source': source} -%}
    {%- set bare = {} -%}
    {%- for name in envelope -%} {%- do bare.update({name: '_document.' ~ name}) -%} {%- endfor -%}
    {%- set positions = {} -%}
    {%- for name in position -%}
        {%- do positions.update({name: '_envelope.source.' ~ adapter.quote(name)}) -%}
    {%- endfor -%}
with

landed as (
    select
        {{ realtime_insights._bronze_address(feed) }},
        {{ realtime_insights.json_struct('value', dict(envelope, payload=none)) }} as _document
    from {{ relation }}
    where value is not null
),

-- Only an envelope under `payload` is parsed again: bare ones do not pay for its columns.
envelopes as (
    select
        *,
        case
            when _document.payload is null then {{ realtime_insights.sequence_struct(bare) }}
            else {{ realtime_insights.json_struct('_document.payload', envelope) }}
        end as _envelope
    from landed
),

changes as (
    select
        *,
        {%- for name in columns %}
        {% if name in keys -%}
        case
            when _envelope.op = 'd' then _envelope.before.{{ adapter.quote(name) }}
            else _envelope.after.{{ adapter.quote(name) }}
        end
        {%- else -%}
        _envelope.after.{{ adapter.quote(name) }}
        {%- endif %} as {{ realtime_insights._text(name) }},
        {%- endfor %}
        case when _envelope.op = 'i' then 'c' else _envelope.op end as _op,
        coalesce(_envelope.op = 'd', false) as _is_deleted,
        {{ realtime_insights.source_timestamp(
            'coalesce(_envelope.source.ts_us, _envelope.source.ts_ms)'
        ) }} as _changed_at,
        {% if sequence -%}
        case
            when _envelope.op in ('d', 't') then try_cast(_envelope.source.ts_ms as bigint)
            else try_cast(_envelope.after.{{ adapter.quote(sequence) }} as bigint)
        end
        {%- else -%}
        {{ realtime_insights._debezium_sequence(connector, positions, '_envelope.op', servers) }}
        {%- endif %} as _sequence
    from envelopes
),

{{ realtime_insights._typed_and_checked(
    'changes', columns, keys, large=large, unavailable=true,
    checks=[("_document is null", "not a JSON document")]
        + realtime_insights._operation_checks(truncates)
        + [(
            "case when _is_deleted then _envelope.before is null else _envelope.after is null end",
            "no row image",
        )]
        + realtime_insights._debezium_server_checks(connector, positions, servers),
) }}
{%- endmacro %}
