-- The events in sessions are those in silver of the customers that the bank has.
with

in_sessions as (
    select
        customer_id,
        cast(sum(events) as bigint) as events
    from {{ ref('customer_sessions') }}
    group by customer_id
),

in_silver as (
    select
        clickstream_events.customer_id,
        count(*) as events
    from {{ ref('clickstream_events') }} as clickstream_events
    inner join {{ ref('customers') }} as customers
        on clickstream_events.customer_id = customers.customer_id
    group by clickstream_events.customer_id
)

select
    coalesce(in_sessions.customer_id, in_silver.customer_id) as customer_id,
    in_sessions.events as events_in_sessions,
    in_silver.events as events_in_silver
from in_sessions
full outer join in_silver
    on in_sessions.customer_id = in_silver.customer_id
where in_sessions.events is distinct from in_silver.events
