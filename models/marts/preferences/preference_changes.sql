{{ recomputed_by_customer(keys=['customer_id', 'category', 'changed_at']) }}

with

versions as (
    select * from {{ ref('customer_patterns_history') }}
    where {{ of_changed_customers() }}
),

compared as (
    select
        *,
        case
            when
                lag(valid_to) over (partition by customer_id order by valid_from) = valid_from
                then 0
            else 1
        end as starts_pattern
    from versions
),

-- A delete ends a pattern: what comes after it is another one, and is not compared with the first.
numbered as (
    select
        *,
        sum(starts_pattern) over (
            partition by customer_id order by valid_from
            rows between unbounded preceding and current row
        ) as pattern_number
    from compared
),

counted as (
    select
        'concerts' as category,
        'Concert tickets' as title
    union all
    select
        'comedy' as category,
        'Comedy shows' as title
    union all
    select
        'sport' as category,
        'Sport events' as title
    union all
    select
        'online' as category,
        'Online transactions' as title
),

-- A count that a version does not know tells nothing of a move: the last known one stands.
counts as (
    select
        numbered.customer_id,
        counted.category,
        counted.title,
        numbered.pattern_number,
        numbered.valid_from_at,
        case counted.category
            when 'concerts' then numbered.number_of_concert_tickets
            when 'comedy' then numbered.number_of_comedy_shows
            when 'sport' then numbered.number_of_sport_events
            when 'online' then numbered.number_of_online_txns
        end as value
    from numbered
    cross join counted
),

moves as (
    select
        customer_id,
        category,
        title,
        pattern_number,
        valid_from_at as changed_at,
        value as value_after,
        lag(value) over (
            partition by customer_id, category, pattern_number order by valid_from_at
        ) as value_before,
        lag(valid_from_at) over (
            partition by customer_id, category, pattern_number order by valid_from_at
        ) as version_before_at
    from counts
    where value is not null
),

-- The pattern that still stands, if one does, is the customer's last.
standing as (
    select
        customer_id,
        max(case when is_current then pattern_number end) as pattern_number
    from numbered
    group by customer_id
),

final as (
    select
        moves.customer_id,
        moves.category,
        moves.changed_at,
        moves.version_before_at,
        moves.value_before,
        moves.value_after,
        moves.value_after - moves.value_before as moved_by,
        moves.title
        || ' went from ' || cast(moves.value_before as string)
        || ' to ' || cast(moves.value_after as string) as sentence,
        coalesce(moves.pattern_number = standing.pattern_number, false) as is_in_current_pattern
    from moves
    left join standing
        on moves.customer_id = standing.customer_id
    where moves.value_after <> moves.value_before
)

select * from final
