with

records as (
    {{ json_records(
        source('bronze', 'vendor_retail'),
        feed='vendor_retail',
        columns={
            'order_id': 'string',
            'customer_id': 'bigint',
            'department': 'string',
            'items': 'int',
            'total': 'decimal(18,2)',
            'ordered_at': 'timestamp',
        },
        keys=['order_id'],
        changed_at='ordered_at',
    ) }}
),

renamed as (
    select
        *,
        order_id as event_id,
        'retail' as vendor,
        department as vendor_category,
        items as quantity,
        total as spend_usd,
        ordered_at as occurred_at
    from records
)

select
    event_id,
    customer_id,
    vendor,
    vendor_category,
    quantity,
    spend_usd,
    occurred_at,
    {{ change_columns() }}
from renamed
