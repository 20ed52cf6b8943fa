{{ recomputed_by_customer_month(keys=['customer_id', 'month']) }}
{%- if var('crash') %}
{{ config(post_hook="select 1 / crash") }}
{%- endif %}

with

payments as (
    select * from {{ ref('payments') }}
    where {{ of_changed_customer_months() }}
),

people as (
    select * from {{ ref('people') }}
    where {{ of_changed_customers() }}
)

select
    payments.customer_id,
    payments.month,
    people.region,
    cast(sum(payments.amount_usd) as decimal(18, 2)) as spend_usd
from payments
left join people
    on payments.customer_id = people.customer_id
group by payments.customer_id, payments.month, people.region
