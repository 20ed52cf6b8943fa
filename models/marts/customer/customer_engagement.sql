{{ recomputed_by_customer(keys=['customer_id']) }}

{%- set days = var('engagement_trend_days') %}
{%- set today = 'cast(' ~ as_of_date() ~ ' as timestamp)' %}
{%- set step = var('engagement_trend_step') %}

with

patterns as (
    select * from {{ ref('customer_patterns') }}
    where {{ of_changed_customers() }}
),

patterns_history as (
    select * from {{ ref('customer_patterns_history') }}
    where {{ of_changed_customers() }}
),

sessions as (
    select * from {{ ref('customer_sessions') }}
    where {{ of_changed_customers() }}
),

trend_rules as (
    select * from {{ ref('engagement_trend_rules') }}
),

-- The pattern that stood when the time looked back on began; of a younger customer the first.
earlier_patterns as (
    select
        customer_id,
        number_of_online_txns
    from patterns_history
    where valid_to_at is null or valid_to_at > {{ today }} - interval {{ days - 1 }} day
    qualify row_number() over (partition by customer_id order by valid_from) = 1
),

-- Sessions of the last days, today included, and of as many days before.
session_counts as (
    select
        customer_id,
        cast(
            sum(case when started_at >= {{ today }} - interval {{ days - 1 }} day then 1 else 0 end)
            as int
        ) as recent_sessions,
        cast(
            sum(case when started_at < {{ today }} - interval {{ days - 1 }} day then 1 else 0 end)
            as int
        ) as earlier_sessions
    from sessions
    where
        started_at >= {{ today }} - interval {{ 2 * days - 1 }} day
        and started_at < {{ today }} + interval 1 day
    group by customer_id
),

compared as (
    select
        patterns.customer_id,
        patterns.number_of_online_txns,
        earlier_patterns.number_of_online_txns as earlier_online_txns,
        coalesce(patterns.number_of_online_txns, 0)
        - coalesce(earlier_patterns.number_of_online_txns, 0) as more_online_txns,
        coalesce(session_counts.recent_sessions, 0) as recent_sessions,
        coalesce(session_counts.earlier_sessions, 0) as earlier_sessions,
        patterns.updated_at as observed_at
    from patterns
    left join earlier_patterns
        on patterns.customer_id = earlier_patterns.customer_id
    left join session_counts
        on patterns.customer_id = session_counts.customer_id
),

directed as (
    select
        *,
        case
            when more_online_txns >= {{ step }} then 'up'
            when more_online_txns <= -{{ step }} then 'down'
            else 'same'
        end as online_txns_direction,
        case
            when recent_sessions - earlier_sessions >= {{ step }} then 'up'
            when recent_sessions - earlier_sessions <= -{{ step }} then 'down'
            else 'same'
        end as sessions_direction
    from compared
),

final as (
    select
        directed.customer_id,
        directed.number_of_online_txns,
        directed.earlier_online_txns,
        directed.recent_sessions,
        directed.earlier_sessions,
        {{ engagement_level('directed.number_of_online_txns') }} as engagement_level,
        trend_rules.trend as engagement_trend,
        directed.observed_at
    from directed
    left join trend_rules
        on
            directed.online_txns_direction = trend_rules.online_txns_direction
            and directed.sessions_direction = trend_rules.sessions_direction
)

select * from final
