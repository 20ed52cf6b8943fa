-- Over such a table: right, but computed whole.
{{ recomputed_by_customer(keys=['customer_id', 'region']) }}

select
    months.customer_id,
    months.region,
    cast(sum(months.spend_usd) as decimal(18, 2)) as spend_usd,
    max(best_regions.spend_usd) as region_spend_usd
from {{ ref('spend_by_month') }} as months
inner join {{ ref('best_regions') }} as best_regions
    on months.region = best_regions.region
where {{ of_changed_customers('months.customer_id') }}
group by months.customer_id, months.region
