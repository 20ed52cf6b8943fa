{{ config(
    unique_key=['feed', 'batch_id'],
    post_hook='{{ record_watermarks(may_be_stopped=true) }}',
) }}

with

changes as (
    {{ staged_changes(staged_feeds()) }}
),

timed as (
    select
        *,
        ({{ epoch_microseconds('_source_timestamp') }} - {{ epoch_microseconds('_changed_at') }})
        / 1000000 as lateness_seconds
    from changes
),

final as (
    select
        _feed as feed,
        batch_id,
        count(*) as records,
        count(_reject_reason) as rejected_records,
        -- What can be read and has columns to judge.
        count(
            case
                when
                    (_reject_reason is null or _broken_rules is not null)
                    and not _is_deleted and coalesce(_op <> 't', true)
                    then 1
            end
        ) as judged_records,
        count(
            case when lateness_seconds > {{ var('late_after_seconds') }} then 1 end
        ) as late_records,
        -- A cast alone rounds on one engine and cuts off on another.
        cast(floor(percentile_disc(0.95) within group (order by lateness_seconds)) as bigint)
            as lateness_p95_seconds,
        cast(floor(max(lateness_seconds)) as bigint) as lateness_max_seconds,
        max(_source_timestamp) as last_source_timestamp,
        max(_ingested_at) as last_ingested_at,
        coalesce(bool_or(_stops_feed), false) as stops_feed
    from timed
    group by _feed, batch_id
)

select * from final
