-- Every pair of directions has its trend: else a customer would have none.
with

directions as (
    select 'up' as direction
    union all
    select 'same' as direction
    union all
    select 'down' as direction
)

select
    online_txns.direction as online_txns_direction,
    sessions.direction as sessions_direction
from directions as online_txns
cross join directions as sessions
left join {{ ref('engagement_trend_rules') }} as rules
    on
        online_txns.direction = rules.online_txns_direction
        and sessions.direction = rules.sessions_direction
where rules.trend is null
