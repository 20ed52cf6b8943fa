{{ recomputed_by_customer(keys=['customer_id', 'session_id']) }}

with

clickstream_events as (
    select * from {{ ref('clickstream_events') }}
    where {{ of_changed_customers() }}
),

customers as (
    select customer_id from {{ ref('customers') }}
    where {{ of_changed_customers() }}
),

-- Of a customer who left, the behaviour goes too. Events without a customer are of nobody's
-- session.
events as (
    select
        clickstream_events.*,
        row_number() over (
            partition by clickstream_events.customer_id
            order by clickstream_events.occurred_at, clickstream_events.event_id
        ) as place,
        lag(clickstream_events.occurred_at) over (
            partition by clickstream_events.customer_id
            order by clickstream_events.occurred_at, clickstream_events.event_id
        ) as previous_at
    from clickstream_events
    inner join customers
        on clickstream_events.customer_id = customers.customer_id
),

-- All of a customer's events, not those of some days: a late one may join what were two sessions.
numbered as (
    select
        *,
        sum(
            case
                when occurred_at <= previous_at + interval {{ var('session_gap_minutes') }} minute
                    then 0
                else 1
            end
        ) over (
            partition by customer_id
            order by place
            rows between unbounded preceding and current row
        ) as session_number
    from events
),

sessions as (
    select
        customer_id,
        min_by(event_id, place) as first_event_id,
        min_by(device, case when device is not null then place end) as device,
        min_by(region, case when region is not null then place end) as region,
        min_by(page, case when page is not null then place end) as entry_page,
        max_by(page, case when page is not null then place end) as exit_page,
        cast(count(*) as int) as events,
        cast(count(distinct page) as int) as pages,
        {{ epoch_microseconds('max(occurred_at)') }} - {{ epoch_microseconds('min(occurred_at)') }}
            as duration_microseconds,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at
    from numbered
    group by customer_id, session_number
),

final as (
    select
        md5(cast(customer_id as string) || '|' || first_event_id) as session_id,
        customer_id,
        device,
        region,
        entry_page,
        exit_page,
        events,
        pages,
        cast(floor(duration_microseconds / 1000000) as int) as duration_seconds,
        started_at,
        ended_at
    from sessions
)

select * from final
