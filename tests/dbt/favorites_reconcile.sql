-- Fails where a category's favourites of everybody are not the sum of what customers prefer, to the
-- cent, or where segments tell of more than there is.
with

preferences as (
    select
        category,
        count(*) as customers,
        sum(events) as events,
        sum(spend_usd) as spend_usd
    from {{ ref('customer_preferences') }}
    group by category
),

favorites as (
    select
        category,
        sum(case when segment = 'all' then customers else 0 end) as customers,
        sum(case when segment = 'all' then events else 0 end) as events,
        sum(case when segment = 'all' then spend_usd else 0 end) as spend_usd,
        sum(case when segment <> 'all' then events else 0 end) as segment_events
    from {{ ref('customer_favorites') }}
    group by category
),

differences as (
    select coalesce(preferences.category, favorites.category) as category
    from preferences
    full outer join favorites
        on preferences.category = favorites.category
    where
        coalesce(preferences.customers, 0) <> coalesce(favorites.customers, 0)
        or coalesce(preferences.events, 0) <> coalesce(favorites.events, 0)
        or coalesce(preferences.spend_usd, 0) <> coalesce(favorites.spend_usd, 0)
        or favorites.segment_events > favorites.events
)

select * from differences
