-- Across customers: a table, which does not say whose rows change.
{{ config(materialized='table') }}

select
    region,
    cast(sum(spend_usd) as decimal(18, 2)) as spend_usd
from {{ ref('spend_by_month') }}
group by region
