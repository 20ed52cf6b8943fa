select
    customer_id,
    programme,
    average_monthly_spend_usd,
    break_even_spend_usd,
    break_even_status,
    average_monthly_net_usd as monthly_net_usd
from {{ ref('cash_back_break_even') }}
where is_newest_programme and break_even_status <> 'no_spend'
