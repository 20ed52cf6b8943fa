-- A historical extract: keys, columns and a sequence, no record of who wrote it when.
{{ config(materialized='table') }}

select
    stream,
    k,
    v,
    w,
    _sequence
from {{ ref('stg_extract') }}
