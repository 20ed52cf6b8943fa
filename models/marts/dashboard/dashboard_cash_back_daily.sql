select
    date_day,
    customers,
    interchange_usd,
    cash_back_usd,
    monthly_fee_usd,
    servicing_cost_usd,
    net_usd,
    net_to_date_usd
from {{ ref('cash_back_result_daily') }}
