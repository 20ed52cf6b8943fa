with

customers as (
    select count(*) as customers
    from {{ ref('customers') }}
),

clock as (
    select max(transacted_at) as as_of
    from {{ ref('cash_back_ledger') }}
),

recent as (
    select
        count(distinct ledger.customer_id) as active_customers,
        cast(coalesce(sum(ledger.spend_usd), 0) as decimal(18, 2)) as card_spend_usd
    from {{ ref('cash_back_ledger') }} as ledger
    cross join clock
    where ledger.transacted_at > clock.as_of - interval 30 day
),

months as (
    select *
    from {{ ref('dashboard_cash_back_monthly') }}
    where is_over
    qualify row_number() over (order by month desc) = 1
),

landed as (
    select
        cast(sum(records) as bigint) as records_landed,
        cast(sum(late_records) as bigint) as late_changes
    from {{ ref('feed_freshness') }}
),

rejected as (
    select cast(coalesce(sum(records), 0) as bigint) as records_rejected
    from {{ ref('quarantine_summary') }}
),

final as (
    select
        clock.as_of,
        customers.customers,
        recent.active_customers,
        recent.card_spend_usd,
        months.month as cash_back_month,
        months.cash_back_usd as cash_back_cost_usd,
        months.net_usd as cash_back_net_usd,
        months.customers_in_loss,
        months.loss_usd,
        landed.records_landed,
        rejected.records_rejected,
        landed.late_changes
    from customers
    cross join clock
    cross join recent
    left join months on true
    cross join landed
    cross join rejected
)

select * from final
