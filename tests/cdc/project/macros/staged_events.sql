{# Records of the tests as changes, in plain SQL, as anybody would stage a feed of their own. #}
{% macro staged_events(feed) %}
with

records as (
    select
        {{ realtime_insights._bronze_address(feed) }},
        {{ json_struct('value', {
            'stream': none, 'k': none, 'op': none, 'flag': none, 'sets': none,
            'v': none, 'w': none, 'x': none, 'city': none, 'zip': none,
            'seq': none, 'seq_2': none,
        }) }} as image
    from {{ source('bronze', feed) }}
)

select
    image.stream as stream,
    cast(image.k as bigint) as k,
    image.v as v,
    cast(image.w as {{ var('type_of_w', 'int') }}) as w,
    cast(image.x as decimal(18, 2)) as x,
    {{ struct_of({'city': 'image.city', 'zip': 'image.zip'}) }} as address,
    image.flag as flag,
    split(image.sets, ',') as sets,
    {{ tags() }} as tags,
    cast(image.seq as bigint) as seq,
    cast(image.seq_2 as bigint) as seq_2,
    lpad(image.seq, 12, '0') as seq_text,
    {{ source_timestamp("image.seq || '000'") }} as seq_time,
    image.op as _op,
    image.op = 'd' as _is_deleted,
    cast(image.seq as bigint) as _sequence,
    {{ source_timestamp("image.seq || '000'") }} as _changed_at,
    cast(null as {{ dbt.type_string() }}) as _reject_reason,
    cast(null as {{ dbt.type_string() }}) as _rejected_value,
    _feed,
    batch_id,
    _source,
    _partition,
    _position,
    _source_timestamp,
    _ingested_at
from records
{% endmacro %}

{# A map: nothing that could order changes. #}
{% macro tags() %} {{ return(adapter.dispatch('tags', 'realtime_insights')()) }} {% endmacro %}
{% macro default__tags() %} {{ return("map('a', 1)") }} {% endmacro %}
{% macro duckdb__tags() %} {{ return("map {'a': 1}") }} {% endmacro %}
