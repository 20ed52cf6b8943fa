{#
    Debezium envelopes of MongoDB, landed as text, to change rows. `after` is a document as text, in
    extended JSON; the key is read from the message key, which deletes have too.

    An update has a document only if capture.mode is one of change_streams_update_full*; without one
    it is rejected. Changes are ordered by the time and the ordinal of the operation log; all
    changes of a transaction share both, and of those the later arrival counts.

    https://debezium.io/documentation/reference/stable/connectors/mongodb.html#mongodb-events
#}
{% macro debezium_mongodb_changes(relation, feed, columns) -%}
    {%- set image = {} -%}
    {%- for name in columns -%} {%- do image.update({name: none}) -%} {%- endfor -%}
    {%- set envelope = {
        'op': none,
        'after': none,
        'source': {'ts_ms': none, 'ord': none},
    } -%}
    {%- if '_id' not in columns -%}
        {%- do exceptions.raise_compiler_error("columns of a MongoDB collection need its key, '_id'") -%}
    {%- endif -%}
    {%- set bare = {} -%}
    {%- for name in envelope -%} {%- do bare.update({name: '_document.' ~ name}) -%} {%- endfor -%}
with

landed as (
    select
        {{ realtime_insights._bronze_address(feed) }},
        {{ realtime_insights.json_struct('value', dict(envelope, payload=none)) }} as _document,
        {{ realtime_insights.json_struct(
            adapter.quote('key'), {'id': none, 'payload': {'id': none}}
        ) }} as _message_key
    from {{ relation }}
    where value is not null
),

envelopes as (
    select
        *,
        case
            when _document.payload is null then {{ realtime_insights.sequence_struct(bare) }}
            else {{ realtime_insights.json_struct('_document.payload', envelope) }}
        end as _envelope,
        coalesce(_message_key.payload.id, _message_key.id) as _key_json
    from landed
),

images as (
    select
        *,
        {{ realtime_insights.json_struct('_envelope.after', image) }} as _image,
        {{ realtime_insights.json_struct("concat('{\"_id\":', _key_json, '}')", {'_id': none}) }}
            as _key_image
    from envelopes
),

changes as (
    select
        *,
        {%- for name in columns %}
        {{ realtime_insights._extended_json(
            '_key_image.' ~ adapter.quote(name) if name == '_id' else '_image.' ~ adapter.quote(name)
        ) }} as {{ realtime_insights._text(name) }},
        {%- endfor %}
        case when _envelope.op = 'i' then 'c' else _envelope.op end as _op,
        coalesce(_envelope.op = 'd', false) as _is_deleted,
        {{ realtime_insights.source_timestamp('_envelope.source.ts_ms') }} as _changed_at,
        case
            when
                try_cast(_envelope.source.ts_ms as bigint) is not null
                and try_cast(_envelope.source.ord as int) is not null
                then {{ realtime_insights.sequence_struct({
                    'ts_ms': 'try_cast(_envelope.source.ts_ms as bigint)',
                    'ord': 'try_cast(_envelope.source.ord as int)',
                }) }}
        end as _sequence
    from images
),

{{ realtime_insights._typed_and_checked('changes', columns, ['_id'], key_only_deletes=true, checks=[
    ("_document is null", "not a JSON document"),
    ("_op is null or _op not in ('c', 'u', 'd', 'r')", "unknown operation"),
    ("not _is_deleted and _envelope.after is null",
        "no document: set capture.mode=change_streams_update_full, or it was deleted since"),
    (
        "not _is_deleted and _image." ~ adapter.quote('_id') ~ " is null",
        "the document is no JSON object with an _id",
    ),
]) }}
{%- endmacro %}

{#
    The value in a text of extended JSON: {"$numberLong": "7"} and its like hold one value; any
    other text (a plain value, a nested document, a type not listed here) is itself.
    https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/
#}
{% macro _extended_json(text) -%}
    {%- set wrapped = '^[{] ?"[$](oid|date|numberInt|numberLong|numberDouble|numberDecimal)" ?: ?'
        ~ '([{] ?"[$]numberLong" ?: ?)?"?([^"}]*)' -%}
    case
        when substr({{ text }}, 1, 1) = '{'
            then coalesce(nullif(regexp_extract({{ text }}, '{{ wrapped }}', 3), ''), {{ text }})
        else {{ text }}
    end
{%- endmacro %}
