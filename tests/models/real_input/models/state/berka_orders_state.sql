{{ config(unique_key=['order_id']) }}

{{ cdc_current(
    changes=[ref('stg_berka__orders')],
    keys=['order_id'],
    columns=['account_id', 'amount', 'purpose'],
) }}
