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
        cast(sum(late_records) as bigint) as late_records
    from batches
    group by feed
),

final as (
    select
        totals.feed,
        totals.records,
        totals.late_records,
        newest.batch_id as last_batch_id,
        newest.last_ingested_at,
        newest.last_source_timestamp,
        newest.lateness_p95_seconds
    from totals
    inner join newest
        on totals.feed = newest.feed
)

select * from final
