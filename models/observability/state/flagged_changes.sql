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
    {{ staged_changes([
        ref('stg_bank__customers'),
        ref('stg_bank__accounts'),
        ref('stg_bank__card_transactions'),
        ref('stg_bank__checking_transactions'),
        ref('stg_bank__loan_applications'),
        ref('stg_reference__purchase_trends'),
        ref('stg_reference__checking_acct'),
        ref('stg_app__clickstream'),
        ref('stg_vendors__tickets'),
        ref('stg_vendors__travel'),
        ref('stg_vendors__dining'),
        ref('stg_vendors__retail'),
    ]) }}
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
