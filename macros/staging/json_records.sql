{#
    Flat JSON records (application events, rows of files), landed as text, to change rows. Every
    record is an upsert of its key: these feeds have no deletes.

    relation, feed, columns, keys   as in `debezium_changes`
    changed_at   optional: the field that says when it happened. Default: the time of the message or
                 of the file, so that of two files the newer one counts.
    sequence     optional: the field, whole numbers, that orders records of one key. Default: the
                 microseconds of `changed_at`.
#}
{% macro json_records(relation, feed, columns, keys, changed_at=none, sequence=none) -%}
    {%- set document = {} -%}
    {%- for name in columns -%} {%- do document.update({name: none}) -%} {%- endfor -%}
with

landed as (
    select
        {{ realtime_insights._bronze_address(feed) }},
        {{ realtime_insights.json_struct('value', document) }} as image
    from {{ relation }}
    where value is not null
),

timed as (
    select
        *,
        'c' as _op,
        false as _is_deleted,
        {% if changed_at -%}
        {{ realtime_insights.source_timestamp('image.' ~ adapter.quote(changed_at)) }}
        {%- else -%}
        _source_timestamp
        {%- endif %} as _changed_at
    from landed
),

images as (
    select
        *,
        {% if sequence -%}
        try_cast(image.{{ adapter.quote(sequence) }} as bigint) as _sequence
        {%- else -%}
        {{ realtime_insights.epoch_microseconds('_changed_at') }} as _sequence
        {%- endif %}
    from timed
),

{{ realtime_insights._typed_and_checked('images', columns, keys, checks=[
    ("image is null", "not a JSON document"),
]) }}
{%- endmacro %}
