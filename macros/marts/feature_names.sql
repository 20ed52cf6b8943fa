{#
    The features of `customer_features`, in the order of its columns: what `point_in_time` joins,
    and what is compared to tell whether a version differs from the one before it.
#}
{% macro feature_names() -%}
    {{ return([
        'tenure_days',
        'cash_back_programme',
        'balance_usd',
        'number_of_online_txns',
        'engagement_level',
        'number_of_events',
        'purchases_30d',
        'purchases_90d',
        'spend_30d_usd',
        'spend_90d_usd',
        'average_purchase_90d_usd',
        'categories_90d',
        'travel_share_90d_pct',
        'refund_share_90d_pct',
        'days_since_last_purchase',
    ]) }}
{%- endmacro %}
