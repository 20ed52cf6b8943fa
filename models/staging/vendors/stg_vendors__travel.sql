with

records as (
    {{ json_records(
        source('bronze', 'vendor_travel'),
        feed='vendor_travel',
        columns={
            'booking_id': 'string',
            'customer_id': 'bigint',
            'trip_type': 'string',
            'nights': 'int',
            'price': 'decimal(18,2)',
            'booked_at': 'timestamp',
        },
        keys=['booking_id'],
        changed_at='booked_at',
    ) }}
),

renamed as (
    select
        *,
        booking_id as event_id,
        'travel' as vendor,
        trip_type as vendor_category,
        nights as quantity,
        price as spend_usd,
        booked_at as occurred_at
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
