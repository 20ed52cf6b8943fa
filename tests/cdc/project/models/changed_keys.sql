-- What a model downstream reads: only what changed since its own last run.
{{ config(
    materialized='incremental',
    incremental_strategy='cdc',
    unique_key=['stream', 'k'],
    post_hook="{{ record_watermarks() }}",
) }}

select
    stream,
    k,
    _is_deleted as is_gone,
    _applied_run as seen_in_run
from {{ ref('current') }}
where {{ changed_since_last_run(ref('current')) }}
