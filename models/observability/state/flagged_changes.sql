{{ config(
    unique_key=['feed', 'source', 'source_partition', 'source_position'],
    pre_hook='{{ forget_stopped() }}',
    post_hook=[
        "{{ log_expectations(batches=ref('feed_batches')) }}",
        '{{ record_watermarks(may_be_stopped=true) }}',
    ],
) }}

-- depends_on: {{ ref('feed_batches') }}

with

changes as (
    {{ staged_changes(staged_feeds()) }}
),

final as (
    select
        _feed as feed,
        _source as source,
        _partition as source_partition,
        _position as source_position,
        batch_id,
        _reject_reason as reason,
        _broken_rules as broken_rules,
        _rejected_value as value,
        _ingested_at as ingested_at,
        _stops_feed as stops_feed
    from changes
    where _reject_reason is not null or _broken_rules is not null
)

select * from final
