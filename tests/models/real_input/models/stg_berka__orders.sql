with

records as (
    {{ json_records(
        source('bronze', 'berka_orders'),
        feed='berka_orders',
        columns={
            'order_id': 'bigint',
            'account_id': 'bigint',
            'amount': 'decimal(18,2)',
            'k_symbol': 'string',
        },
        keys=['order_id'],
    ) }}
)

select
    order_id,
    account_id,
    amount,
    case trim(k_symbol)
        when 'SIPO' then 'household'
        when 'UVER' then 'loan'
        when 'POJISTNE' then 'insurance'
        when 'LEASING' then 'leasing'
    end as purpose,
    {{ change_columns() }}
from records
