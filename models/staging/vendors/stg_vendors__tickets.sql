with

records as (
    {{ json_records(
        source('bronze', 'vendor_tickets'),
        feed='vendor_tickets',
        columns={
            'event_id': 'string',
            'customer_id': 'bigint',
            'event_type': 'string',
            'tickets': 'int',
            'total_price': 'decimal(18,2)',
            'purchased_at': 'timestamp',
        },
        keys=['event_id'],
        changed_at='purchased_at',
    ) }}
),

renamed as (
    select
        *,
        'tickets' as vendor,
        event_type as vendor_category,
        tickets as quantity,
        total_price as spend_usd,
        purchased_at as occurred_at
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
