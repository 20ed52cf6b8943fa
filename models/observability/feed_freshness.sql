with

batches as (
    select * from {{ ref('feed_batches') }}
),

newest as (
    select *
    from batches
    qualify row_number() over (partition by feed order by batch_id desc) = 1
),

totals as (
    select
        feed,
        cast(sum(records) as bigint) as records,
        cast(sum(late_records) as bigint) as late_records,
        max(lateness_max_seconds) as lateness_max_seconds
    from batches
    group by feed
),

final as (
    select
        totals.feed,
        totals.records,
        totals.late_records,
        {{ scale_amount('cast(100 as decimal(18, 2))', 'totals.late_records', 'totals.records') }}
            as late_records_pct,
        newest.batch_id as last_batch_id,
        newest.last_ingested_at,
        newest.last_source_timestamp,
        newest.lateness_p95_seconds,
        totals.lateness_max_seconds
    from totals
    inner join newest
        on totals.feed = newest.feed
)

select * from final
