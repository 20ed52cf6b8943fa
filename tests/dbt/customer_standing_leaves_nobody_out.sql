-- Fails where the metrics would count other customers than the marts hold: with an engagement
-- level, with a break-even, or at all.
with

standing as (
    select
        cast(sum(case when is_customer then 1 else 0 end) as bigint) as customers,
        cast(sum(case when engagement_level is not null then 1 else 0 end) as bigint) as levels,
        cast(sum(case when break_even_status is not null then 1 else 0 end) as bigint) as statuses
    from {{ ref('customer_standing') }}
),

held as (
    select
        (select count(*) from {{ ref('customers') }}) as customers,
        (select count(*) from {{ ref('customer_engagement') }}) as levels,
        (
            select count(*)
            from {{ ref('cash_back_break_even') }}
            where is_newest_programme
        ) as statuses
)

select
    standing.customers,
    held.customers as customers_held,
    standing.levels,
    held.levels as levels_held,
    standing.statuses,
    held.statuses as statuses_held
from standing
cross join held
where
    coalesce(standing.customers, 0) <> held.customers
    or coalesce(standing.levels, 0) <> held.levels
    or coalesce(standing.statuses, 0) <> held.statuses
