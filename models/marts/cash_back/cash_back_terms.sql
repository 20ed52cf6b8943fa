{{ config(materialized='view') }}

with

programmes as (
    select * from {{ ref('cash_back_programmes') }}
),

-- Terms that start inside a month in which others hold already start with the next month: a month
-- has one cap, one fee and one servicing cost. The first terms of a programme hold for the whole
-- month in which they start.
started as (
    select
        *,
        cast(date_trunc('month', valid_from) as date) as started_month,
        cast(date_trunc('month', valid_from) + interval 1 month as date) as following_month,
        lag(valid_to) over (partition by programme order by valid_from) as earlier_valid_to
    from programmes
),

periods as (
    select
        *,
        case
            when valid_from > started_month and earlier_valid_to > started_month
                then following_month
            else started_month
        end as holds_from_month
    from started
),

bounded as (
    select
        *,
        case
            when valid_to is null then date '9999-01-01'
            when valid_to = cast(date_trunc('month', valid_to) as date) then valid_to
            else cast(date_trunc('month', valid_to) + interval 1 month as date)
        end as ends_month,
        lead(holds_from_month) over (partition by programme order by valid_from) as next_month
    from periods
),

final as (
    select
        programme,
        valid_from as programme_valid_from,
        holds_from_month,
        least(ends_month, coalesce(next_month, ends_month)) as holds_to_month,
        monthly_fee_usd,
        monthly_servicing_cost_usd,
        monthly_cap_usd
    from bounded
    where holds_from_month < least(ends_month, coalesce(next_month, ends_month))
)

select * from final
