{{ config(materialized='view') }}

with

purchases as (
    select * from {{ ref('cash_back_purchases') }}
),

refunds as (
    select * from {{ ref('cash_back_refunds') }}
),

entries as (
    select
        transaction_id,
        customer_id,
        'purchase' as transaction_type,
        cast(null as bigint) as original_transaction_id,
        programme,
        programme_valid_from,
        category,
        transacted_at,
        transaction_month,
        interchange_rate,
        cash_back_rate,
        spend_usd,
        interchange_usd,
        cash_back_usd,
        withheld_by_cap_usd,
        cap_left_usd,
        is_counted,
        true as is_original_known
    from purchases
    union all
    select
        transaction_id,
        customer_id,
        transaction_type,
        original_transaction_id,
        programme,
        programme_valid_from,
        category,
        transacted_at,
        transaction_month,
        interchange_rate,
        cash_back_rate,
        spend_usd,
        interchange_usd,
        cash_back_usd,
        cast(0 as decimal(18, 2)) as withheld_by_cap_usd,
        cast(null as decimal(18, 2)) as cap_left_usd,
        is_counted,
        is_original_known
    from refunds
),

final as (
    select * from entries
)

select * from final
