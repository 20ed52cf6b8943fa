-- Fails with the customers whose level is not that of their online transactions, as the published
-- reference defines it: LOW up to 2, MEDIUM up to 10, HIGH above.
select
    customer_id,
    number_of_online_txns,
    engagement_level
from {{ ref('customer_engagement') }}
where
    not coalesce(
        (engagement_level = 'LOW' and number_of_online_txns <= 2)
        or (engagement_level = 'MEDIUM' and number_of_online_txns between 3 and 10)
        or (engagement_level = 'HIGH' and number_of_online_txns >= 11),
        false
    )
