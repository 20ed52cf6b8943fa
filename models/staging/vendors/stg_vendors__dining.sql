with

records as (
    {{ json_records(
        source('bronze', 'vendor_dining'),
        feed='vendor_dining',
        columns={
            'visit_id': 'string',
            'customer_id': 'bigint',
            'cuisine': 'string',
            'party_size': 'int',
            'bill': 'decimal(18,2)',
            'visited_at': 'timestamp',
        },
        keys=['visit_id'],
        changed_at='visited_at',
    ) }}
),

renamed as (
    select
        *,
        visit_id as event_id,
        'dining' as vendor,
        cuisine as vendor_category,
        party_size as quantity,
        bill as spend_usd,
        visited_at as occurred_at
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
